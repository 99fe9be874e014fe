package feed

import (
	"testing"
	"text/template"

	"github.com/stretchr/testify/require"
)

func TestALineIsParsed(t *testing.T) {
	for line, want := range map[string][2]string{
		`{"key":"a","data":"text"}`:               {"a", "text"},
		`{"data":{"x": [1]},"key":"a.b","seq":1}`: {"a.b", `{"x": [1]}`},
		`{"key":"a","data":null}`:                 {"a", "null"},
		`{"key":"\u0061","data":"\"\n"}`:          {"a", "\"\n"},
		`{"ack_id":"i","deliver_count":1,"key":"a","data":"1","stream_id":"s","data_hash":"h","seq":1,"inserted_at":"t","updated_at":"t"}`: {"a", "1"},
		`{"key":"a","data":"1","ack_id":"","deliver_count":1,"last_delivered_at":"t","not_visible_until":"t","state":"pending"}`:           {"a", "1"},
	} {
		m, err := ParseMessage([]byte(line))
		require.NoError(t, err, line)
		require.Equal(t, want, [2]string{m.Key, m.Data}, line)
	}
	m, err := ParseMessage([]byte(`{"key":"a","headers":{"x":"1","y":"ü\""},"data":1}`))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"x": "1", "y": `ü"`}, m.Headers)
	m, err = ParseMessage([]byte(`{"key":"a","data":1,"headers":null}`))
	require.NoError(t, err)
	require.Nil(t, m.Headers)
	for line, want := range map[string]string{
		`{"key":"a","data":1,"headers":{"x":1}}`: "headers: json", `{"key":"a","data":1,"headers":"x"}`: "headers: json",
		`{"key":"a"}`: `no "data"`, `{"data":1}`: `no "key"`, `{}`: `no "key"`, `[]`: "not a JSON object", `{"key":1,"data":1}`: "not a JSON object",
		`{"key":"a","data":1,"key":"b"}`: `"key" is there twice`, `{"data":1,"data":1,"key":"b"}`: `"data" is there twice`,
		`{"key":"a","data":1,"headers":null,"headers":{}}`: `"headers" is there twice`, `{"key":"a","data":1,"headers":{"x":"1","x":"1"}}`: `the header "x" is there twice`,
		`{"key":"a","data":1,"header":{"x":"1"}}`: `there is no field "header": a line has "key", "data" and "headers"`, `no`: `not a JSON object: want {"key":`,
		`{"a":1,"b":1}`: `no field "a"`, `{"header":{`: "not a JSON object with",
		`{"key":"a","data":1} x`: "not a JSON object", `{"key":"a","data":`: "not a JSON object", "{\"key\":\"a\",\"data\":\"\xff\"}": "not valid UTF-8",
	} {
		_, err := ParseMessage([]byte(line))
		require.ErrorContains(t, err, want, line)
	}
}

// Simple templates are not run by text/template. Their keys must be the same.
func TestSimpleTemplatesMakeTheKeysOfTheTemplatePackage(t *testing.T) {
	lines := []string{
		`{"id":1,"a":{"b":"x"}}`, `{"id":1e3,"a":{"b":true}}`, `{"id":12345678901234567890,"a":{"b":""}}`, `{"id":"ü\n","a":{"b":2},"z":{"id":3}}`,
		`{"a":{"b":1}}`, `{"id":1}`, `{"id":1,"a":2}`, `{"id":null,"a":{"b":1}}`, `{"id":{"x":1},"a":{"b":[1]}}`, `{"id":1,"id":2,"a":{"b":1}}`,
		`{"id":1,"a":{"b":1},"a":{"c":1}}`, `[]`, `{"id":1`, `{"id":1,"a":{"b":1}} {}`, ``,
	}
	for _, text := range []string{"{{.id}}", "k.{{.id}}.{{.a.b}}", "{{.a.b}}"} {
		parse, err := KeyTemplate(text)
		require.NoError(t, err)
		reference := template.Must(template.New("key").Option("missingkey=error").Parse(text))
		parts, simple := partsOf(reference.Root)
		require.True(t, simple)
		quick := 0
		for _, line := range lines {
			want, wantErr := execute(reference, []byte(line))
			m, err := parse([]byte(line))
			require.Equal(t, wantErr == nil, err == nil, "%s of %s", text, line)
			if err == nil {
				require.Equal(t, want, m.Key, "%s of %s", text, line)
				require.Equal(t, line, m.Data)
			}
			if _, ok := join(parts, []byte(line)); ok {
				quick++
			}
		}
		require.Positive(t, quick)
	}
	parse, err := KeyTemplate(`{{if .vip}}vip{{else}}all{{end}}.{{printf "%05s" .id}}`)
	require.NoError(t, err)
	m, err := parse([]byte(`{"vip":true,"id":7}`))
	require.NoError(t, err)
	require.Equal(t, "vip.00007", m.Key)
	_, err = parse([]byte(`{"id":1} {}`))
	require.ErrorContains(t, err, "not one JSON object a line")
	_, err = parse([]byte("{\"id\":\"\xff\"}"))
	require.ErrorIs(t, err, errNotUTF8)
}
