package server

import (
	"strings"
	"unicode/utf8"
)

// Limits of keys and patterns.
const (
	maxKey    = 255
	maxTokens = 16
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

// keyFault is what is wrong with a key. Of several faults the first of this list is told, as on the 2024 server.
type keyFault uint8

const (
	keyFine keyFault = iota
	keyEmpty
	keyCharacters
	keyDelimiter // at the start or at the end
	keyEmptyToken
	keyLong
	keyTokens
	keyNUL
	keyUnprintable // not ASCII, or a control character
)

func (f keyFault) String() string {
	return [...]string{
		"is fine", "must not be empty", "contains invalid characters", "must not start or end with a delimiter",
		"must not contain empty tokens", "must not exceed 255 characters", "must not contain more than 16 tokens",
		"must not contain null characters", "contains invalid characters",
	}[f]
}

// checkKey returns what is wrong with a key. It reads a valid key once.
func checkKey(key string) keyFault {
	tokens, clean := 1, true
	for i := range len(key) {
		switch b := key[i]; {
		case b == '.':
			tokens++
			clean = clean && i > 0 && key[i-1] != '.'
		case b <= ' ' || b > '~' || b == '*' || b == '>':
			clean = false
		}
	}
	if n := len(key); clean && n > 0 && n <= maxKey && tokens <= maxTokens && key[n-1] != '.' {
		return keyFine
	}
	return keyFaultOf(key, tokens)
}

// keyFaultOf returns the fault of an invalid key.
func keyFaultOf(key string, tokens int) keyFault {
	switch {
	case key == "":
		return keyEmpty
	case strings.ContainsAny(key, " *>"):
		return keyCharacters
	case key[0] == '.' || key[len(key)-1] == '.':
		return keyDelimiter
	case strings.Contains(key, ".."):
		return keyEmptyToken
	case utf8.RuneCountInString(key) > maxKey:
		return keyLong
	case tokens > maxTokens:
		return keyTokens
	case strings.Contains(key, "\x00"):
		return keyNUL
	}
	return keyUnprintable
}

// checkPattern returns what is wrong with a pattern, or "". With its wildcards replaced by a letter a pattern is a key.
func checkPattern(pattern string) string {
	tokens := strings.Split(pattern, ".")
	for i, token := range tokens {
		if token == "*" || token == ">" && i == len(tokens)-1 {
			tokens[i] = "x"
		}
	}
	switch fault := checkKey(strings.Join(tokens, ".")); {
	case fault == keyFine:
		return ""
	case fault == keyCharacters && strings.ContainsAny(pattern, "*>"):
		return "Key pattern must use `*` as a whole token only, and `>` as the last token only"
	default:
		return "Key pattern " + fault.String()
	}
}
