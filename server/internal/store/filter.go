package store

import "strings"

// filter matches keys against a pattern of tokens joined by ".". A "*" matches one token. A ">" at the end matches one or
// more.
type filter struct {
	tokens []string
	rest   bool // the pattern ends in ">"
}

func newFilter(pattern string) filter {
	tokens := strings.Split(pattern, ".")
	if tokens[len(tokens)-1] == ">" {
		return filter{tokens[:len(tokens)-1], true}
	}
	return filter{tokens, false}
}

func (f filter) match(key string) bool {
	for i, want := range f.tokens {
		token, rest, more := strings.Cut(key, ".")
		if want != "*" && want != token {
			return false
		}
		if last := i == len(f.tokens)-1; last {
			return more == f.rest
		} else if !more {
			return false
		}
		key = rest
	}
	return f.rest
}
