package server

import (
	"strings"

	"github.com/sequin-go/sequin/server/internal/store"
)

// maxName is the largest length of a name. The 2024 server has this limit; the documentation has none.
const maxName = 255

// checkName returns what is wrong with the name of a stream or a consumer, or "".
func checkName(name string, dashes bool) string {
	for i := range len(name) {
		b := name[i]
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '_' || dashes && b == '-') {
			if dashes {
				return "must contain only alphanumeric characters, underscores or dashes"
			}
			return "must contain only alphanumeric characters or underscores"
		}
	}
	if len(name) > maxName {
		return "should be at most 255 character(s)"
	}
	return ""
}

// checkPattern returns what is wrong with a pattern, or "". With its wildcards replaced by a letter a pattern is a key.
func checkPattern(pattern string) string {
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		if token == "*" || token == ">" && i == len(tokens)-1 {
			tokens[i] = "x"
		}
	}
	switch fault := store.CheckKey(strings.Join(tokens, ".")); {
	case fault == store.KeyFine:
		return ""
	case fault == store.KeyCharacters && strings.ContainsAny(pattern, "*>"):
		return "Key pattern must use `*` as a whole token only, and `>` as the last token only"
	default:
		return "Key pattern " + fault.String()
	}
}
