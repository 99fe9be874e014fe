package store

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAFilterMatchesTokenByToken(t *testing.T) {
	tests := []struct {
		pattern string
		match   []string
		not     []string
	}{
		{">", []string{"a", "a.b", "a.b.c"}, nil},
		{"a", []string{"a"}, []string{"b", "aa", "a.b"}},
		{"a.>", []string{"a.b", "a.b.c"}, []string{"a", "b.a", "ab.c"}},
		{"*", []string{"a", "b"}, []string{"a.b"}},
		{"a.*", []string{"a.b"}, []string{"a", "a.b.c", "b.b"}},
		{"*.b", []string{"a.b", "b.b"}, []string{"a", "a.c", "a.b.c"}},
		{"a.*.c", []string{"a.b.c"}, []string{"a.c", "a.b.b", "a.b.c.d"}},
		{"*.*.>", []string{"a.b.c", "a.b.c.d"}, []string{"a.b"}},
		{"a..b", nil, []string{"a.b", "a"}},
	}
	for _, tt := range tests {
		f := NewFilter(tt.pattern)
		for _, key := range tt.match {
			require.Truef(t, f.Match(key), "%s and %s", tt.pattern, key)
		}
		for _, key := range tt.not {
			require.Falsef(t, f.Match(key), "%s and %s", tt.pattern, key)
		}
	}
}

// matchNaively is a second implementation of the reference: "*" matches one token, ">" at the end matches one or more.
func matchNaively(pattern, key string) bool {
	return matchTokens(strings.Split(pattern, "."), strings.Split(key, "."))
}

func matchTokens(pattern, key []string) bool {
	switch {
	case len(pattern) == 0 || len(key) == 0:
		return len(pattern) == len(key)
	case len(pattern) == 1 && pattern[0] == ">":
		return true
	case pattern[0] != "*" && pattern[0] != key[0]:
		return false
	}
	return matchTokens(pattern[1:], key[1:])
}

// FuzzFilter compares the filter with matchNaively.
func FuzzFilter(f *testing.F) {
	for _, pattern := range []string{">", "*", "a", "a.>", "a.*", "*.b", "a.*.c", "*.*", "*.>", "a.b.>", "a.>.c", "", ".", "a.", ".a", "**", "a*"} {
		for _, key := range []string{"a", "a.b", "a.b.c", "b", "ab", "a..b", "a.", ".a", "", "*", ">"} {
			f.Add(pattern, key)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		require.Equal(t, matchNaively(pattern, key), NewFilter(pattern).Match(key))
	})
}

func TestTheLiteralOfAFilterIsInEveryKeyThatItMatches(t *testing.T) {
	for pattern, want := range map[string]string{
		">": "", "*": "", "*.>": "", "a": "a", "a.b.>": "a.b", "*.a.b.*.long.>": "long", "*.a.b.*.c.d": "a.b", "orders.*": "orders",
	} {
		require.Equal(t, want, NewFilter(pattern).Literal(), pattern)
	}
	random := rand.New(rand.NewPCG(3, 4))
	words := func(of ...string) string {
		n := 1 + random.IntN(4)
		tokens := make([]string, n)
		for i := range tokens {
			tokens[i] = of[random.IntN(len(of))]
		}
		return strings.Join(tokens, ".")
	}
	for range 20_000 {
		f, key := NewFilter(words("a", "bb", "*")+[]string{"", ".>"}[random.IntN(2)]), words("a", "bb", "c")
		if f.Match(key) {
			require.Contains(t, key, f.Literal())
		}
	}
}
