package envelope_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/envelope"
)

func ExampleEnvelope_Encode() {
	data, err := envelope.Envelope{
		ID:       "0f8f",
		Metadata: map[string]string{"tenant": "7"},
		Payload:  []byte(`{"qty": 4}`),
	}.Encode()
	fmt.Println(data, err)
	// Output: {"envelope":1,"id":"0f8f","metadata":{"tenant":"7"},"payload":{"qty": 4}} <nil>
}

func ExampleDecode() {
	for _, data := range []string{
		`{"envelope":1,"id":"0f8f","payload_text":"plain words"}`,
		`{"qty": 4}`,
		`{"envelope":2}`,
	} {
		e, ok, err := envelope.Decode(data)
		fmt.Printf("%t %q %q %v\n", ok, e.ID, e.Payload, err)
	}
	// Output:
	// true "0f8f" "plain words" <nil>
	// false "" "{\"qty\": 4}" <nil>
	// false "" "" envelope: invalid: its version is 2, and this reader knows version 1
}

func TestAnEnvelopeIsWrittenAsOtherLanguagesReadIt(t *testing.T) {
	for _, c := range []struct {
		payload, want string
	}{
		{``, `{"envelope":1}`},
		{`{"qty":4}`, `{"envelope":1,"payload":{"qty":4}}`},
		{`{ "qty" : 4.0 , "<a>" : "\u0041" }`, `{"envelope":1,"payload":{ "qty" : 4.0 , "<a>" : "\u0041" }}`},
		{`null`, `{"envelope":1,"payload":null}`},
		{`"text"`, `{"envelope":1,"payload":"text"}`},
		{`[]`, `{"envelope":1,"payload":[]}`},
		{`true`, `{"envelope":1,"payload":true}`},
		{`false`, `{"envelope":1,"payload":false}`},
		{`-1`, `{"envelope":1,"payload":-1}`},
		{`0`, `{"envelope":1,"payload":0}`},
		{`9`, `{"envelope":1,"payload":9}`},
		{`4,"id":"x"`, `{"envelope":1,"payload_text":"4,\"id\":\"x\""}`},
		{` {}`, `{"envelope":1,"payload_text":" {}"}`},
		{"{}\n", `{"envelope":1,"payload_text":"{}\n"}`},
		{"plain words, grüße", `{"envelope":1,"payload_text":"plain words, grüße"}`},
		{"\xff\x00\x01", `{"envelope":1,"payload_base64":"/wAB"}`},
		{"a\x00b", `{"envelope":1,"payload_base64":"YQBi"}`},
		{"\"\xff\"", `{"envelope":1,"payload_base64":"Iv8i"}`},
	} {
		data, err := envelope.Envelope{Payload: []byte(c.payload)}.Encode()
		require.NoError(t, err)
		require.Equal(t, c.want, data)
		require.True(t, json.Valid([]byte(data)))
	}
}

// TestAPayloadAsDeepAsJSONMayBeIsReadBack covers what a reader accepts alone, and not one level deeper.
func TestAPayloadAsDeepAsJSONMayBeIsReadBack(t *testing.T) {
	for _, depth := range []int{9_998, 9_999, 10_000, 10_001} {
		payload := strings.Repeat("[", depth) + strings.Repeat("]", depth)
		data, err := envelope.Envelope{Payload: []byte(payload)}.Encode()
		require.NoError(t, err)
		e, ok, err := envelope.Decode(data)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, payload, string(e.Payload))
	}
}

func TestMetadataIsSortedAndReadBack(t *testing.T) {
	in := envelope.Envelope{ID: "a\"b", Metadata: map[string]string{"b": "2\n", "": "", "a": "1 \u2028 \x00"}, Payload: []byte("x")}
	data, err := in.Encode()
	require.NoError(t, err)
	require.Equal(t, `{"envelope":1,"id":"a\"b","metadata":{"":"","a":"1 `+"\u2028"+` \u0000","b":"2\n"},"payload_text":"x"}`, data)
	out, ok, err := envelope.Decode(data)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, in, out)
}

func TestWhatIsNotUTF8IsNotSent(t *testing.T) {
	for want, e := range map[string]envelope.Envelope{
		`the id is not UTF-8: "\xff"`:                      {ID: "\xff"},
		`a name of the metadata is not UTF-8: "\xff"`:      {Metadata: map[string]string{"\xff": "a"}},
		`the value of tenant is not UTF-8: "\xed\xa0\x80"`: {Metadata: map[string]string{"tenant": "\xed\xa0\x80"}},
	} {
		data, err := e.Encode()
		require.Empty(t, data)
		require.ErrorIs(t, err, envelope.ErrInvalid)
		require.EqualError(t, err, "envelope: invalid: "+want)
	}
}

func TestAReaderTakesMembersInAnyOrder(t *testing.T) {
	for _, data := range []string{
		`{"payload":[1, 2],"metadata":{"a":"b"},"id":"7","envelope":1}`,
		" {\n\t\"id\" : \"7\" , \"other\" : { \"payload\" : [ ] } ,\r\n \"payload\" : [1, 2] , \"envelope\" : 1 , \"metadata\" : { \"a\" : \"b\" } } ",
		`{"envelope":1.0,"id":"\u0037","metadata":{"\u0061":"\u0062"},"payload":[1, 2]}`,
		`{"envelope":1e0,"i\u0064":"7","metadata":{"a":"b"},"payload_text":"[1, 2]"}`,
		`{"envelope":1,"id":"7","metadata":{"a":"b"},"payload_base64":"WzEsIDJd"}`,
	} {
		e, ok, err := envelope.Decode(data)
		require.NoError(t, err, data)
		require.True(t, ok, data)
		require.Equal(t, envelope.Envelope{ID: "7", Metadata: map[string]string{"a": "b"}, Payload: []byte(`[1, 2]`)}, e, data)
	}
}

func TestOtherDataIsThePayload(t *testing.T) {
	for _, data := range []string{
		``, ` `, `words`, `4`, `[{"envelope":1}]`, `{}`, `{"envelope":"1","payload":2}`, `{"envelope":null}`, `{"envelope":true,"id":4}`,
		`{"envelope":1`, `{"envelope":1} x`, `{"inner":{"envelope":1}}`, `{"Envelope":1}`, `{"id":"7","payload":{"qty":4}}`,
	} {
		e, ok, err := envelope.Decode(data)
		require.NoError(t, err, data)
		require.False(t, ok, data)
		require.Equal(t, data, string(e.Payload))
		require.Empty(t, e.ID)
		require.Nil(t, e.Metadata)
	}
}

func TestABrokenEnvelopeIsAnError(t *testing.T) {
	for data, want := range map[string]string{
		`{"envelope":2}`:                                `its version is 2, and this reader knows version 1`,
		`{"envelope":1e400}`:                            `its version is 1e400, and this reader knows version 1`,
		`{"id":4,"envelope":1}`:                         `"id" is a number, and must be a text`,
		`{"envelope":1,"id":null}`:                      `"id" is null, and must be a text`,
		`{"envelope":1,"id":"a","id":"a"}`:              `it has id twice`,
		`{"envelope":1,"envelope":1}`:                   `it has envelope twice`,
		`{"envelope":1,"metadata":[]}`:                  `"metadata" is an array, and must be an object`,
		`{"envelope":1,"metadata":{"a":4}}`:             `"a" is a number, and must be a text`,
		`{"envelope":1,"payload":1,"payload":1}`:        `it has a payload twice`,
		`{"envelope":1,"payload":1,"payload_text":"1"}`: `it has a payload twice`,
		`{"envelope":1,"payload_text":1}`:               `"payload_text" is a number, and must be a text`,
		`{"envelope":1,"payload_base64":"/wA"}`:         `"payload_base64": illegal base64 data at input byte 0`,
		`{"envelope":1,"payload_base64":"/w\nAB"}`:      `"payload_base64": illegal line break at input byte 2`,
		`{"envelope":1,"payload_base64":"/wAB\r\n"}`:    `"payload_base64": illegal line break at input byte 4`,
		`{"envelope":1,"payload_base64":{}}`:            `"payload_base64" is an object, and must be a text`,
	} {
		e, ok, err := envelope.Decode(data)
		require.ErrorIs(t, err, envelope.ErrInvalid, data)
		require.EqualError(t, err, "envelope: invalid: "+want)
		require.False(t, ok)
		require.Zero(t, e)
	}
}

func FuzzEnvelope(f *testing.F) {
	f.Add("", "", "", "")
	f.Add("0f8f", "tenant", "7", `{"qty":4}`)
	f.Add("\"", "\\", "\n", "plain words")
	f.Add("\u2028", "\x00", "", "\xff\x00\x01")
	f.Fuzz(func(t *testing.T, id, name, value, payload string) {
		in := envelope.Envelope{ID: id, Metadata: map[string]string{name: value, "a": "b"}, Payload: []byte(payload)}
		data, err := in.Encode()
		if err != nil {
			return
		}
		out, ok, err := envelope.Decode(data)
		if !ok || err != nil || out.ID != id || !maps.Equal(out.Metadata, in.Metadata) || string(out.Payload) != payload {
			t.Fatalf("%q: %+v, %t, %v", data, out, ok, err)
		}
	})
}

// FuzzDecode compares the reader with encoding/json.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{`{"envelope":1,"id":"0f8f","metadata":{"tenant":"7"},"payload":{"qty":4}}`, `{"envelope":1,"payload_base64":"/wAB"}`, `{"envelope":2}`, `{"a":1}`, `words`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		e, ok, err := envelope.Decode(data)
		if ok && err != nil || !ok && err == nil && string(e.Payload) != data {
			t.Fatalf("%q: %+v, %t, %v", data, e, ok, err)
		}
		if !ok {
			return
		}
		var theirs map[string]json.RawMessage
		if err := json.Unmarshal([]byte(data), &theirs); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		var id string
		if raw, there := theirs["id"]; there {
			if err := json.Unmarshal(raw, &id); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
		}
		if raw := theirs["payload"]; id != e.ID || raw != nil && string(raw) != string(e.Payload) {
			t.Fatalf("%q: %+v", data, e)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	payload := `{"id":"` + strings.Repeat("x", 80) + `","qty":4}` // 100 bytes
	data, err := envelope.Envelope{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", Metadata: map[string]string{"tenant": "7"}, Payload: []byte(payload)}.Encode()
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok, err := envelope.Decode(data); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for name, payload := range map[string]string{"json": `{"id":"` + strings.Repeat("x", 80) + `","qty":4}`, "text": "hello, world"} {
		b.Run(name, func(b *testing.B) {
			e := envelope.Envelope{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", Metadata: map[string]string{"tenant": "7"}, Payload: []byte(payload)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
