package store

import "strings"

// Filter matches keys against a pattern of tokens joined by ".". A "*" matches one token. A ">" at the end matches one or
// more.
type Filter struct {
	tokens []string
	rest   bool // the pattern ends in ">"
}

// NewFilter returns the filter of a pattern that was checked.
func NewFilter(pattern string) Filter {
	tokens := strings.Split(pattern, ".")
	if tokens[len(tokens)-1] == ">" {
		return Filter{tokens[:len(tokens)-1], true}
	}
	return Filter{tokens, false}
}

// Match reports whether the filter matches a key.
func (f Filter) Match(key string) bool {
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

// Literal returns a text that every key has which the filter matches, the longest that the pattern shows; "" if it shows none. What does
// not contain it need not be looked at.
func (f Filter) Literal() string {
	longest := ""
	for i := 0; i < len(f.tokens); {
		end := i
		for end < len(f.tokens) && f.tokens[end] != "*" {
			end++
		}
		if text := strings.Join(f.tokens[i:end], "."); len(text) > len(longest) {
			longest = text
		}
		i = end + 1
	}
	return longest
}
