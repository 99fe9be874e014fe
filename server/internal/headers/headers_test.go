package headers_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server/internal/headers"
)

func pack(t *testing.T, pairs ...string) headers.Packed {
	t.Helper()
	p, err := headers.Append(nil, list(pairs...))
	require.NoError(t, err)
	return headers.Packed(p)
}

func list(pairs ...string) (all []headers.Header) {
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, headers.Header{Name: []byte(pairs[i]), Value: []byte(pairs[i+1])})
	}
	return all
}

func TestHeadersArePackedInTheOrderOfTheirNames(t *testing.T) {
	p := pack(t, "b", "2", "A.z_-9", "\"é\n", "a", "")
	require.Equal(t, headers.Packed("A.z_-9\x00\"é\n\x00a\x00\x00b\x002\x00"), p)
	require.Equal(t, p, pack(t, "a", "", "b", "2", "A.z_-9", "\"é\n"))
	require.Equal(t, map[string]string{"A.z_-9": "\"é\n", "a": "", "b": "2"}, p.Map())
	require.Equal(t, `{"A.z_-9":"\"é\n","a":"","b":"2"}`, string(p.AppendJSON(nil)))
	require.NoError(t, p.Check())
	require.Empty(t, pack(t))
	require.Nil(t, headers.Packed("").Map())
	require.NoError(t, headers.Packed("").Check())
}

func TestHeadersThatBreakARuleAreRefused(t *testing.T) {
	many := func(n int) (pairs []string) {
		for i := range n {
			pairs = append(pairs, fmt.Sprint("h", i), "")
		}
		return pairs
	}
	long := func(n int) string { return strings.Repeat("v", n) }
	for _, row := range []struct {
		pairs []string
		says  string // "" for none
	}{
		{many(64), ""},
		{many(65), "at most 64, this one has 65"},
		{[]string{"ab", long(16_382)}, ""},
		{[]string{"ab", long(16_383)}, "at most 16384 bytes together"},
		{[]string{"a", long(8_000), "b", long(8_383)}, "at most 16384 bytes together"},
		{[]string{"", "x"}, `this one is ""`},
		{[]string{"a b", "x"}, `this one is "a b"`},
		{[]string{"é", "x"}, "letters, digits and `_.-` only"},
		{[]string{"a\x00b", "x"}, "letters, digits and `_.-` only"},
		{[]string{"a", "1", "b", "2", "a", "1"}, `the name "a" is there twice`},
		{[]string{"a", "\x00"}, `the value of "a" contains a null character`},
	} {
		_, err := headers.Append(nil, list(row.pairs...))
		if row.says == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, row.says)
	}
}

func FuzzPacked(f *testing.F) {
	for _, p := range []string{"", "a\x001\x00", "a\x001\x00b\x00\x00", "b\x00\x00a\x00\x00", "a\x00", "a\x001", "\x00\x00", "é\x00x\x00"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := headers.Packed(text)
		m := p.Map()
		if p.Check() != nil {
			return // only a panic is a failure
		}
		var pairs []string
		for name, value := range m {
			pairs = append(pairs, name, value)
		}
		require.Equal(t, p, pack(t, pairs...))
		if text := p.AppendJSON(nil); strings.ToValidUTF8(string(p), "") == string(p) {
			got := map[string]string{}
			require.NoError(t, json.Unmarshal(text, &got))
			require.Len(t, got, len(m))
			for name, value := range m {
				require.Equal(t, value, got[name])
			}
		}
	})
}
