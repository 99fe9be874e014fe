package store

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// matchNaively compares token by token what the reference says of patterns: "*" is any one token, ">" at the end one or
// more.
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

func FuzzFilter(f *testing.F) {
	for _, pattern := range []string{">", "*", "a", "a.>", "a.*", "*.b", "a.*.c", "*.*", "*.>", "a.b.>", "a.>.c", "", ".", "a.", ".a", "**", "a*"} {
		for _, key := range []string{"a", "a.b", "a.b.c", "b", "ab", "a..b", "a.", ".a", "", "*", ">"} {
			f.Add(pattern, key)
		}
	}
	f.Fuzz(func(t *testing.T, pattern, key string) {
		require.Equal(t, matchNaively(pattern, key), newFilter(pattern).match(key))
	})
}
