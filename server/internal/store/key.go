package store

import (
	"strings"
	"unicode/utf8"
)

// Limits of keys and patterns.
const (
	MaxKey    = 255 // characters
	MaxTokens = 16
)

// KeyFault is what is wrong with a key. Of several faults the first of this list is told, as on the 2024 server.
type KeyFault uint8

const (
	KeyFine KeyFault = iota
	KeyEmpty
	KeyCharacters
	KeyDelimiter // at the start or at the end
	KeyEmptyToken
	KeyLong
	KeyTokens
	KeyNUL
	KeyUnprintable // not ASCII, or a control character
)

func (f KeyFault) String() string {
	return [...]string{
		"is fine", "must not be empty", "contains invalid characters", "must not start or end with a delimiter",
		"must not contain empty tokens", "must not exceed 255 characters", "must not contain more than 16 tokens",
		"must not contain null characters", "contains invalid characters",
	}[f]
}

// CheckKey returns what is wrong with a key. It reads a valid key once.
func CheckKey(key string) KeyFault {
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
	if n := len(key); clean && n > 0 && n <= MaxKey && tokens <= MaxTokens && key[n-1] != '.' {
		return KeyFine
	}
	return keyFaultOf(key, tokens)
}

// keyFaultOf returns the fault of an invalid key.
func keyFaultOf(key string, tokens int) KeyFault {
	switch {
	case key == "":
		return KeyEmpty
	case strings.ContainsAny(key, " *>"):
		return KeyCharacters
	case key[0] == '.' || key[len(key)-1] == '.':
		return KeyDelimiter
	case strings.Contains(key, ".."):
		return KeyEmptyToken
	case utf8.RuneCountInString(key) > MaxKey:
		return KeyLong
	case tokens > MaxTokens:
		return KeyTokens
	case strings.Contains(key, "\x00"):
		return KeyNUL
	}
	return KeyUnprintable
}
