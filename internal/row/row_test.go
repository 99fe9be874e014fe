package row_test

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/jscan"
	"github.com/sequin-go/sequin/internal/row"
)

// decode decodes a text as a caller of the package does.
func decode(p *row.Plan, t reflect.Type, text string) (value any, fits bool, err error) {
	into := reflect.New(t)
	var d row.Decoder
	d.Reset(p, into.Elem(), text)
	var s jscan.Scanner
	s.ResetString(text)
	d.Decode(&s)
	if err := s.Done(); err != nil {
		return nil, false, err
	}
	if !d.Fits() {
		into = reflect.New(t)
		err = json.Unmarshal([]byte(text), into.Interface())
	}
	return into.Interface(), d.Fits(), err
}

type (
	name  string
	upper string // decodes itself
	point struct{ X, Y int }
	audit struct {
		By name      `json:"by"`
		At time.Time `json:"at"`
	}
	Tags  struct{ Tags []string }
	order struct {
		ID       int64
		Customer string   `json:"customer"`
		Named    name     `json:"named,omitempty"`
		Note     *string  `json:"note"`
		Qty      *int     `json:"qty"`
		Small    int8     `json:"small"`
		Count    uint16   `json:"count"`
		Price    float64  `json:"price"`
		Ratio    *float32 `json:"ratio"`
		Paid     bool     `json:"paid"`
		Sent     *bool
		Due      *time.Time      `json:"due"`
		Extra    json.RawMessage `json:"extra"`
		More     *json.RawMessage
		Any      any
		Map      map[string]int
		List     []*point
		Array    [2]int
		Place    point
		Deep     **int
		Number   json.Number
		Bytes    []byte
		IP       netip.Addr
		PIP      *netip.Addr
		Upper    upper
		PUpper   *upper
		Straße   string
		//lint:ignore SA5008 encoding/json takes the name "-"
		Dashed string `json:"-,"`
		Left   string `json:"-"`
		//lint:ignore SA5008 encoding/json ignores such a name
		Odd    string `json:"a\"b"`
		Dotted string `json:"a.b/c"`
		//lint:ignore U1000 it must not be decoded
		secret string
		audit
		Tags
	}
)

func (u *upper) UnmarshalJSON(text []byte) error {
	*u = upper(strings.ToUpper(string(text)))
	if *u == `"BAD"` {
		return fmt.Errorf("bad")
	}
	return nil
}

// Types that encoding/json has to decode.
type (
	itself struct{ time.Time }
	twice  struct{ A, B point }
	//lint:ignore ST1003 the names differ in case only
	collides struct{ ID, Id int }
	hides    struct {
		audit
		By string `json:"by"`
	}
	quoted struct {
		ID int `json:",string"`
	}
	pointed   struct{ *Tags }
	unlabeled struct {
		audit `json:"audit"`
	}
	recursive struct {
		Next *recursive
		Name string
	}
)

var types = []reflect.Type{
	reflect.TypeFor[order](), reflect.TypeFor[point](), reflect.TypeFor[audit](), reflect.TypeFor[twice](), reflect.TypeFor[recursive](),
	reflect.TypeFor[*order](), reflect.TypeFor[map[string]any](), reflect.TypeFor[any](), reflect.TypeFor[itself](), reflect.TypeFor[collides](),
	reflect.TypeFor[hides](), reflect.TypeFor[quoted](), reflect.TypeFor[pointed](), reflect.TypeFor[unlabeled](), reflect.TypeFor[upper](),
	reflect.TypeFor[struct{}](), reflect.TypeFor[[]int](), reflect.TypeFor[string](), reflect.TypeFor[int](),
	reflect.TypeFor[struct{ unexported, x int }](), reflect.TypeFor[struct {
		audit
		X func()
		C complex64
	}](),
}

var texts = []string{
	`{}`, `null`, `[]`, `"text"`, `7`, `true`,
	`{"id":1,"customer":"ann","named":"n","note":"x","qty":3,"small":-4,"count":65535,"price":1.5,"ratio":2,"paid":true,"sent":false}`,
	`{"ID":9007199254740993,"CUSTOMER":"grüße \u00e9 \ud83d\ude42 \ud800","note":null,"qty":null,"price":1e3,"ratio":null,"paid":null}`,
	`{"id":-9223372036854775808,"count":0,"price":-0,"small":127,"qty":-0}`, `{"id":9223372036854775808}`, `{"small":128}`, `{"count":65536}`, `{"count":-1}`,
	`{"id":1.0}`, `{"id":1e2}`, `{"id":"1"}`, `{"customer":1}`, `{"paid":"true"}`, `{"price":1e400}`, `{"ratio":1e39}`, `{"price":"1"}`, `{"note":{}}`, `{"qty":[1]}`,
	`{"due":"2026-11-26T10:00:00.123456Z","at":"2026-11-26T10:00:00+02:00","by":"me"}`, `{"due":"yesterday"}`, `{"due":null,"at":null}`, `{"at":5}`,
	`{"extra":{"a": [1, 2]},"more":null,"any":{"b":[1,"x",null,true,1.5]},"map":{"k":1},"list":[{"x":1},null],"array":[1,2,3],"place":{"x":1,"Y":2}}`,
	`{"extra":null,"more": [1] ,"any":null,"map":null,"list":null,"array":null,"place":null,"deep":3,"number":"12","bytes":"AQI=","ip":"127.0.0.1","pip":null}`,
	`{"deep":null,"number":1e5,"bytes":"?","ip":"x"}`, `{"number":"x"}`, `{"upper":"abc","pupper":"abc"}`, `{"upper":null,"pupper":null}`, `{"upper":"bad"}`,
	`{"stra` + "\u1e9e" + `e":"1","strasse":"2","STRAßE":"3","customer` + "\u0000" + `":1}`, "{\"\u212aey\":1,\"cu\u017ftomer\":\"long s\"}",
	`{"-":"dash","Left":"never","a\"b":"odd","Odd":"by its name","a.b/c":"dotted","secret":"s","tags":["x"],"audit":{"by":"x"}}`,
	`{"qty":1,"qty":2,"note":"a","note":null,"note":"b","customer":"x","customer":null,"any":{"a":1},"any":{"b":2},"map":{"a":1},"map":{"b":2},"place":{"x":1},"place":{"y":2}}`,
	"{\"customer\":\"a\xffb\",\"c\xff\":1}", " {\n\t\"id\" : 1 , \"customer\" : \"x\" , \"price\" : 2 } ", `{"id":01}`, `{"id":1,}`, `{"id":-}`, `{"next":{"name":"a","next":null},"name":"b"}`,
	`{"A":{"x":1},"b":{"y":2}}`, `{"x":1,"Y":2}`, `{"X":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, `{"Time":"2026-11-26T10:00:00Z"}`, `"2026-11-26T10:00:00Z"`,
}

// requireAsJSON decodes a text with a plan, and requires what encoding/json makes of it.
func requireAsJSON(t *testing.T, p *row.Plan, typ reflect.Type, text string) (fits bool) {
	t.Helper()
	want := reflect.New(typ)
	wantErr := json.Unmarshal([]byte(text), want.Interface())
	got, fits, err := decode(p, typ, text)
	if wantErr != nil {
		require.Error(t, err, "%v: %q", typ, text)
		return fits
	}
	require.NoError(t, err, "%v: %q", typ, text)
	require.Equal(t, want.Interface(), got, "%v: %q", typ, text)
	return fits
}

func TestARowIsDecodedAsByEncodingJSON(t *testing.T) {
	for _, typ := range types {
		learned := row.NewPlan(typ)
		for range 2 { // the second time it knows orders of the members
			for _, text := range texts {
				requireAsJSON(t, row.NewPlan(typ), typ, text)
				requireAsJSON(t, learned, typ, text)
			}
		}
	}
}

// TestRowsAreDecodedWithoutEncodingJSON makes sure that the comparison does not compare encoding/json with itself.
func TestRowsAreDecodedWithoutEncodingJSON(t *testing.T) {
	typ := reflect.TypeFor[order]()
	for text, fits := range map[string]bool{
		`null`: true, `[]`: false, texts[6]: true, texts[7]: true, texts[8]: true, `{"small":128}`: false, `{"id":1.0}`: false,
		`{"price":1e400}`: false, `{"upper":"bad"}`: false, `{"due":null,"at":null}`: true, `{"due":"yesterday"}`: false,
		`{"extra":{"a": [1, 2]},"any":[1],"place":{"x":1},"straße":"x","-":"y"}`: true, "{\"customer\":\"a\xffb\",\"CUſTOMER\":\"x\"}": true,
	} {
		require.Equal(t, fits, requireAsJSON(t, row.NewPlan(typ), typ, text), text)
	}
	for _, typ := range []reflect.Type{
		reflect.TypeFor[*order](), reflect.TypeFor[any](), reflect.TypeFor[itself](), reflect.TypeFor[collides](), reflect.TypeFor[hides](),
		reflect.TypeFor[quoted](), reflect.TypeFor[pointed](), reflect.TypeFor[unlabeled](), reflect.TypeFor[upper](),
	} {
		require.Nil(t, row.NewPlan(typ), "%v", typ)
	}
}

func TestOtherOrdersOfTheMembersAreDecodedToo(t *testing.T) {
	typ := reflect.TypeFor[order]()
	p := row.NewPlan(typ)
	for _, text := range []string{
		`{"id":1,"customer":"a","qty":2}`, `{"id":2,"customer":"b","qty":3}`, `{"customer":"c","id":3}`, `{"id":4,"new":5,"customer":"d","qty":6}`, `{"qty":7}`,
		`{"id":8,"i\u0064":9,"a\"b":"1","qty":1}`, `{"id":8,"i\u0064":9,"a\"b":"1","qty":1}`, `{"id":8,"i"d":9}`, `{"id":1,"a"b":"x"}`,
	} {
		requireAsJSON(t, p, typ, text)
	}
	for i := range 100 { // more than it learns
		requireAsJSON(t, p, typ, fmt.Sprintf(`{"x%d":1,"qty":2,"id":%d}`, i, i))
	}
}

func TestASecondRowReplacesTheFirst(t *testing.T) {
	var into point
	const text = `[{"x":1,"y":"no"},{"x":2},{"y":3}]`
	var d row.Decoder
	d.Reset(row.NewPlan(reflect.TypeFor[point]()), reflect.ValueOf(&into).Elem(), text)
	var s jscan.Scanner
	s.ResetString(text)
	for s.Array(); s.Elem(); {
		d.Decode(&s)
	}
	require.NoError(t, s.Done())
	require.True(t, d.Fits())
	require.Equal(t, point{Y: 3}, into)
}

// within reports whether a string is a part of the memory of another.
func within(part, whole string) bool {
	from, p := uintptr(unsafe.Pointer(unsafe.StringData(whole))), uintptr(unsafe.Pointer(unsafe.StringData(part)))
	return p >= from && p < from+uintptr(len(whole))
}

func TestTheStringsOfARowDoNotKeepALargeTextInMemory(t *testing.T) {
	typ := reflect.TypeFor[order]()
	small := `{"customer":"ann","note":"of two words","named":"","other":"` + strings.Repeat("x", 100) + `"}`
	got, _, err := decode(row.NewPlan(typ), typ, small)
	require.NoError(t, err)
	o := got.(*order)
	require.Equal(t, "ann", o.Customer)
	require.Equal(t, "of two words", *o.Note)
	require.False(t, within(o.Customer, small))
	require.False(t, within(*o.Note, small))

	large := `{"customer":"` + strings.Repeat("x", 100) + `"}`
	got, _, err = decode(row.NewPlan(typ), typ, large)
	require.NoError(t, err)
	require.True(t, within(got.(*order).Customer, large), "a copy would take as much memory, and time")
}

func TestARowKeepsNoJSONOfTheText(t *testing.T) {
	typ := reflect.TypeFor[order]()
	text := []byte(`{"extra":{"a":1},"id":1}`)
	got, _, err := decode(row.NewPlan(typ), typ, string(text))
	require.NoError(t, err)
	extra := got.(*order).Extra
	_ = append(extra, "overwritten"...)
	require.Equal(t, `{"a":1}`, string(extra))
	extra[0] = 'x' // it is no part of a string
}

// scribbler writes to what it decodes.
type scribbler struct{}

func (scribbler) UnmarshalJSON(text []byte) error {
	clear(text)
	return nil
}

func TestAFieldThatWritesToItsInputDoesNotChangeTheText(t *testing.T) {
	typ := reflect.TypeFor[struct{ A scribbler }]()
	const want = `{"a":{"x":1},"b":2}`
	text := strings.Clone(want) // a constant is in memory that cannot be written
	_, fits, err := decode(row.NewPlan(typ), typ, text)
	require.NoError(t, err)
	require.True(t, fits)
	require.Equal(t, want, text)
}

func FuzzRow(f *testing.F) {
	for _, text := range texts {
		f.Add(text, byte(0))
	}
	f.Add(`{"id":`+fmt.Sprint(uint64(math.MaxUint64))+`}`, byte(3))
	plans := map[reflect.Type]*row.Plan{}
	for _, typ := range types {
		plans[typ] = row.NewPlan(typ)
	}
	f.Fuzz(func(t *testing.T, text string, which byte) {
		typ := types[int(which)%len(types)]
		requireAsJSON(t, row.NewPlan(typ), typ, text)
		requireAsJSON(t, plans[typ], typ, text)
	})
}
