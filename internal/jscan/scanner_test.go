package jscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// decode reads a text with the methods of the Scanner and builds the value that encoding/json builds with UseNumber.
func decode(s *Scanner) any {
	switch s.Kind() {
	case Object:
		object := map[string]any{}
		s.Object()
		for {
			key, ok := s.Key()
			if !ok {
				return object
			}
			name := string(key)
			object[name] = decode(s)
		}
	case Array:
		array := []any{}
		for s.Array(); s.Elem(); {
			array = append(array, decode(s))
		}
		return array
	case String:
		return string(s.String())
	case Number:
		return json.Number(s.Raw())
	case Bool:
		return s.Bool()
	case Null:
		s.Null()
		return nil
	default:
		s.Skip()
		return nil
	}
}

// expect returns the value that encoding/json decodes.
func expect(data []byte) (any, error) {
	if !json.Valid(data) {
		return nil, errors.New("not JSON")
	}
	var want any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err := d.Decode(&want)
	return want, err
}

// texts are seeds for the fuzzer and inputs of the tests: for each rule of the grammar, some that keep it and some that
// break it.
var texts = []string{
	``, ` `, `null`, ` true `, "\tfalse\r\n", `nul`, `nullx`, `truefalse`, `True`, `"`, `""`, `"a`, `"\`, `"\u12`,
	`0`, `-0`, `-`, `01`, `-01`, `1.`, `.5`, `1.5`, `1e`, `1e+`, `1E-7`, `1.5e+10`, `+1`, `1 2`, `0x1`, `9223372036854775808`,
	`[]`, `[ ]`, `[1]`, `[1,]`, `[,1]`, `[1 2]`, `[`, `[1`, `[1,`, `]`, `[]]`, `[[],[[]],{}]`, `[{]}`, `{[}]`,
	`{}`, `{ }`, `{"a":1}`, `{"a":1,}`, `{,"a":1}`, `{"a"}`, `{"a" 1}`, `{"a":}`, `{a:1}`, `{1:1}`, `{"a":1 "b":2}`, `{"a":1,"a":2}`,
	`{"a":{"b":[1,{"c":null}]},"d":"e"}`, "\xef\xbb\xbf{}", "[\"\xff\"]", "{\"\xff\":1}", "\"\x00\"", "\"\x1f\"", "\"\x7f\"", "\"a\nb\"",
	`"\"\\\/\b\f\n\r\t"`, `"\a"`, `"\u0041\u00e9\u4E16"`, `"\uD83D\uDE42"`, `"\ud83d"`, `"\ude42\ud83d"`, `"\ud83d\ud83d\ude42"`,
	`"\ud83dx"`, `"\ud83dzude42"`, "\"\\n\x01\"", "\"\\n1234567\x01\"", "\"\\n12345678\x01\"", "\"\\n\xff\"", "\"\\n", `"\ud83d\n"`, `"\ud83d\u0041"`, `"\ud83d\uZZZZ"`, `"\uGGGG"`, `"\U0041"`, `{"\u006bey":"v"}`, `{"k\`, "[1\v]", "[\"é世🙂\"]",
}

// compare requires that the Scanner and encoding/json agree on a text.
func compare(t *testing.T, data []byte) {
	t.Helper()
	want, wantErr := expect(data)
	var walked, skipped, raw Scanner

	walked.Reset(data)
	got := decode(&walked)
	err := walked.Done()
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q read: %v, encoding/json: %v", data, err, wantErr)
	}
	if err == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("%q is read as %#v, by encoding/json as %#v", data, got, want)
	}
	if err != walked.Err() {
		t.Fatalf("%q: Done returns %v, Err %v", data, err, walked.Err())
	}

	skipped.Reset(data)
	skipped.Skip()
	if err := skipped.Done(); (err == nil) != (wantErr == nil) {
		t.Fatalf("%q skipped: %v, encoding/json: %v", data, err, wantErr)
	}
	raw.Reset(data)
	text := raw.Raw()
	if raw.Done() == nil && string(text) != string(bytes.Trim(data, " \t\r\n")) {
		t.Fatalf("%q: raw is %q", data, text)
	}
}

func TestScannerAgreesWithEncodingJSON(t *testing.T) {
	for _, text := range texts {
		compare(t, []byte(text))
	}
}

func FuzzScanner(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(compare)
}

func FuzzInt(f *testing.F) {
	for _, text := range []string{`0`, `-0`, `1.0`, `1e2`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `-9223372036854775809`, `01`, `"1"`} {
		f.Add(text)
	}
	f.Fuzz(compareInt)
}

// compareInt reads a number by itself and in a list, where the byte after it may end it.
func compareInt(t *testing.T, text string) {
	var want, list = int64(0), []int64(nil)
	wantErr, wantListErr := json.Unmarshal([]byte(text), &want), json.Unmarshal([]byte("["+text+","+text+"]"), &list)
	var s Scanner
	s.Reset([]byte(text))
	if s.Kind() == Null { // encoding/json accepts null and leaves the value unchanged
		return
	}
	got := s.Int()
	if err := s.Done(); (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: %v, encoding/json: %v", text, err, wantErr)
	}
	if wantErr == nil && got != want {
		t.Fatalf("%q is read as %d, by encoding/json as %d", text, got, want)
	}
	s.Reset([]byte("[" + text + "," + text + "]"))
	var elements []int64
	for s.Array(); s.Elem(); {
		elements = append(elements, s.IntOrNull())
	}
	if err := s.Done(); (err == nil) != (wantListErr == nil) {
		t.Fatalf("a list of %q: %v, encoding/json: %v", text, err, wantListErr)
	}
	if wantListErr == nil && !slices.Equal(elements, list) {
		t.Fatalf("a list of %q is read as %d, by encoding/json as %d", text, elements, list)
	}
}

func TestIntAcceptsExactlyWhatFitsAnInt64(t *testing.T) {
	for _, text := range []string{
		`0`, `-0`, `7`, `-7`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `-9223372036854775809`,
		`92233720368547758070`, `18446744073709551617`, `999999999999999999`, `9999999999999999999`, ``, `00`, `01`, `1 `, `1.0`, `1e2`, `-`, `--1`, `"1"`, `[1]`, `true`,
	} {
		compareInt(t, text)
	}
}

func TestNestingIsLimited(t *testing.T) {
	for _, brackets := range [][2]string{{`[`, `]`}, {`{"k":`, `}`}} {
		for _, depth := range []int{63, 64, 65, 128, 129, maxDepth, maxDepth + 1} {
			data := []byte(strings.Repeat(brackets[0], depth) + "1" + strings.Repeat(brackets[1], depth))
			var s Scanner
			s.Reset(data)
			s.Skip()
			require.Equal(t, json.Valid(data), s.Done() == nil, "%d × %s", depth, brackets[0])
		}
	}
	// In random order, so that an error in one level is not hidden by the next.
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		text := "1"
		for range 300 {
			brackets := [][2]string{{`[`, `]`}, {`{"k":`, `}`}}[random.IntN(2)]
			text = brackets[0] + text + brackets[1]
		}
		compare(t, []byte(text))
	}
	mixed := []byte(strings.Repeat(`[{"k":`, 150) + `1` + strings.Repeat(`}]`, 150))
	compare(t, mixed)
	compare(t, bytes.Replace(mixed, []byte(`}]`), []byte(`]}`), 1))
}

func TestErrorsContainOffsetAndReason(t *testing.T) {
	for _, c := range []struct {
		text string
		read func(*Scanner)
		want string
	}{
		{`{"a": 1}`, func(s *Scanner) { s.Array() }, "json: expected an array, found an object at offset 0"},
		{` "x"`, func(s *Scanner) { s.Int() }, "json: expected a number, found a string at offset 1"},
		{`1.5`, func(s *Scanner) { s.Int() }, "json: expected an integer of 64 bits at offset 0"},
		{`[1 2]`, (*Scanner).Skip, "json: expected a comma or the end of an array, found '2' at offset 3"},
		{`{"a" 1}`, (*Scanner).Skip, "json: expected a colon, found '1' at offset 5"},
		{`{"a":1,}`, (*Scanner).Skip, "json: expected a key, found '}' at offset 7"},
		{`{"a":`, (*Scanner).Skip, "json: the text ends where a value should begin at offset 5"},
		{`{"a":1`, (*Scanner).Skip, "json: the text ends inside an object at offset 6"},
		{`"abc`, (*Scanner).Skip, "json: the text ends inside a string at offset 4"},
		{"\"a\nb\"", func(s *Scanner) { _ = s.String() }, "json: control character in a string at offset 2"},
		{`"a\x"`, func(s *Scanner) { _ = s.String() }, "json: invalid escape in a string at offset 2"},
		{`-x`, (*Scanner).Skip, "json: expected a digit, found 'x' at offset 1"},
		{`?`, (*Scanner).Skip, "json: no value begins with '?' at offset 0"},
		{`nil`, func(s *Scanner) { s.Null() }, "json: expected null at offset 0"},
		{`1 1`, (*Scanner).Skip, "json: text after the value at offset 2"},
		{`[1]`, func(s *Scanner) { s.Array() }, "json: the value was not read to its end at offset 1"},
		{`[1]`, func(s *Scanner) { s.Array(); s.Key() }, "json: a member was read where none is allowed at offset 1"},
		{`[1]`, func(s *Scanner) { s.Array(); s.Elem(); s.Elem() }, "json: a member was read where none is allowed at offset 1"},
		{`[1]`, func(s *Scanner) { s.Array(); s.Int() }, "json: a value was read where none is allowed at offset 1"},
		{`1`, func(s *Scanner) { s.Elem() }, "json: a member was read where none is allowed at offset 0"},
	} {
		var s Scanner
		s.Reset([]byte(c.text))
		c.read(&s)
		require.EqualError(t, s.Done(), c.want)
		require.Equal(t, s.Done(), s.Err())
	}
}

func TestEveryMethodReturnsZeroAfterAnError(t *testing.T) {
	var s Scanner
	s.Reset([]byte(`{"a": 1}`))
	require.False(t, s.Array())
	first := s.Err()
	require.Error(t, first)

	require.Equal(t, Invalid, s.Kind())
	require.False(t, s.Object())
	require.False(t, s.Elem())
	_, ok := s.Key()
	require.False(t, ok)
	require.Nil(t, s.String())
	require.Nil(t, s.Raw())
	require.Zero(t, s.Int())
	require.False(t, s.Bool())
	require.False(t, s.Null())
	s.Skip()
	require.Same(t, first, s.Done())

	s.Reset([]byte(`7`))
	require.EqualValues(t, 7, s.Int())
	require.NoError(t, s.Done())
}

func TestStringAliasesTheTextUnlessItHasToChange(t *testing.T) {
	var s Scanner
	data := []byte(`["plain ASCII, long", "grüße 世界 🙂", "a\n", "b\n"]`)
	s.Reset(data)
	s.Array()
	for range 2 {
		require.True(t, s.Elem())
		value := s.String()
		at := bytes.Index(data, value)
		require.Same(t, &data[at], &value[0])
		require.Equal(t, len(value), cap(value), "an append to the value must not change the text")
	}
	s.Reset(data)
	raw := s.Raw()
	require.Same(t, &data[0], &raw[0])
	s.Reset(data[:len(data):len(data)])
	s.Array()
	for range 2 {
		s.Elem()
		raw = s.Raw()
		require.Equal(t, len(raw), cap(raw), "an append to the raw value must not change the text")
	}
	require.True(t, s.Elem())
	first := s.String()
	require.Equal(t, "a\n", string(first))
	require.True(t, s.Elem())
	second := s.String()
	require.Equal(t, "b\n", string(second))
	require.Same(t, &first[0], &second[0], "one buffer is reused")
}

func TestAReusedScannerAllocatesNothing(t *testing.T) {
	var s Scanner
	text := []byte(strings.Repeat("[", 200) + `"with \"escapes\" and\u00e9", {"\n": 1}` + strings.Repeat("]", 200))
	walk := func() {
		s.Reset(text)
		for range 200 {
			s.Array()
			s.Elem()
		}
		_ = s.String()
		for range 200 {
			for s.Elem() {
				s.Object()
				s.Key()
				s.Int()
				s.Key()
			}
		}
		if err := s.Done(); err != nil {
			t.Error(err)
		}
	}
	walk()
	require.Zero(t, testing.AllocsPerRun(100, walk))

	plain, dst := strings.Repeat("grüße \"and\" 世界 ", 20), make([]byte, 0, 1000)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		dst = AppendString(dst[:0], plain)
		StringSize(plain)
	}))
}

func TestKindDoesNotConsume(t *testing.T) {
	var s Scanner
	s.Reset([]byte(`[{}, [], "", -1, 2, true, false, null] `))
	require.Equal(t, Array, s.Kind())
	s.Array()
	require.Equal(t, Invalid, s.Kind(), "Elem has to be called first")
	for _, want := range []Kind{Object, Array, String, Number, Number, Bool, Bool, Null} {
		require.True(t, s.Elem())
		require.Equal(t, want, s.Kind())
		require.Equal(t, want, s.Kind())
		require.Equal(t, want == Null, s.Null(), "only a null is consumed")
		if want != Null {
			s.Skip()
		}
	}
	require.False(t, s.Elem())
	require.Equal(t, End, s.Kind())
	require.NoError(t, s.Done())
	require.Equal(t, "no value", Kind(99).String())
}

func TestMemberMatchesOnlyTheKeyAsWritten(t *testing.T) {
	for _, row := range []struct {
		text string
		ask  []string // the arguments of Member, in turn
		got  []bool
		left string // the keys that remain
	}{
		{`{"a":1,"b":2,"c":3}`, []string{"a", "b", "c"}, []bool{true, true, true}, ""},
		{`{"a":1,"b":2,"c":3}`, []string{"a", "c", "b"}, []bool{true, false, true}, "c"},
		{`{"a":1,"b":2,"c":3}`, []string{"b", "c"}, []bool{false, false}, "abc"},
		{`{"a":1}`, []string{"a", "a", "b"}, []bool{true, false, false}, ""},
		{`{}`, []string{"a", ""}, []bool{false, false}, ""},
		{`{"":1,"":2}`, []string{"", ""}, []bool{true, true}, ""},
		{`{ "a":1,"b":2}`, []string{"a"}, []bool{false}, "ab"},
		{`{"a" :1}`, []string{"a"}, []bool{false}, "a"},
		{`{"a":1, "b":2}`, []string{"a", "b"}, []bool{true, false}, "b"},
		{"{\"\\u0061\":1}", []string{"a"}, []bool{false}, "a"},
		{`{"ab":1}`, []string{"a", "abc"}, []bool{false, false}, "ab"},
	} {
		var s Scanner
		s.Reset([]byte(row.text))
		require.False(t, s.Member(`"a":`), "outside of an object")
		s.Object()
		for i, name := range row.ask {
			require.Equal(t, row.got[i], s.Member(`"`+name+`":`), "%s: %q", row.text, name)
			if row.got[i] {
				require.False(t, s.Member(`"`+name+`":`), "%s: the value of %q has not been read", row.text, name)
				s.Skip()
			}
		}
		left := ""
		for key, ok := s.Key(); ok; key, ok = s.Key() {
			left += string(key)
			s.Skip()
		}
		require.Equal(t, row.left, left, row.text)
		require.NoError(t, s.Done(), row.text)
	}
}

func TestMethodsFailOutOfTurnAndAfterAnError(t *testing.T) {
	read := map[string]func(*Scanner) any{
		"a string":  func(s *Scanner) any { return string(s.String()) },
		"a text":    func(s *Scanner) any { return string(s.StringOrNull()) },
		"a number":  func(s *Scanner) any { return s.Int() },
		"a count":   func(s *Scanner) any { return s.IntOrNull() },
		"anything":  func(s *Scanner) any { s.Skip(); return nil },
		"a literal": func(s *Scanner) any { return s.Null() },
	}
	for what, value := range map[string]string{"a string": `"b"`, "a text": `"b"`, "a number": `1`, "a count": `1`, "anything": `"b"`, "a literal": `null`} {
		var s Scanner
		s.Reset([]byte(`[` + value + `,` + value + `]`))
		s.Array() // without Elem
		require.Zero(t, read[what](&s), what)
		require.Equal(t, what != "a literal", s.Err() != nil, what)
		s.Reset([]byte(`{"a" ` + value + `,"c":0}`)) // fails at the missing colon
		s.Object()
		s.Key()
		failed := s.Err()
		require.Error(t, failed)
		require.Zero(t, read[what](&s), what)
		require.Same(t, failed, s.Done())
		require.False(t, s.Member(`"c":`))
	}
	var s Scanner
	for _, text := range []string{`{"a`, `{"a"`, `{"ax:1}`, `{"a"x1}`} {
		s.Reset([]byte(text))
		s.Object()
		require.False(t, s.Member(`"a":`), text)
	}
	s.Reset([]byte(`{"a":1}`))
	s.Object()
	s.Bool() // without Key
	require.Error(t, s.Err())
	require.False(t, s.Member(`"a":`))
}

func TestMemberReportsFalseInAnArrayAndAfterAnError(t *testing.T) {
	var s Scanner
	s.Reset([]byte(`["a":1]`))
	s.Array()
	require.False(t, s.Member(`"a":`))
	s.Reset([]byte(`{"a":x,"b":1}`))
	s.Object()
	require.True(t, s.Member(`"a":`))
	s.Skip()
	require.False(t, s.Member(`"b":`))
	require.Error(t, s.Err())
}

func TestCopiedSaysWhetherAStringIsInTheBuffer(t *testing.T) {
	var s Scanner
	s.Reset([]byte(`["plain","esc\\aped","","grüße","\u00fc"]`))
	var copied []bool
	for s.Array(); s.Elem(); {
		copied = append(copied, s.Copied(s.String()))
	}
	require.NoError(t, s.Done())
	require.Equal(t, []bool{false, true, false, false, true}, copied)
}
