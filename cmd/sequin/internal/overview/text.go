package overview

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pretty returns data with the indentation of JSON, and unchanged if it is none.
func Pretty(data string) string {
	var out bytes.Buffer
	if !json.Valid([]byte(data)) || json.Indent(&out, []byte(data), "", "  ") != nil {
		return data
	}
	return out.String()
}

// Visible returns text in which nothing acts on a terminal, or on the order of the characters around it: control characters, marks
// of direction, other invisible ones and invalid bytes are written as \x1b, \u202e and so on. Newlines and tabs stay if lines
// is true.
func Visible(text string, lines bool) string {
	if clean(text, lines) {
		return text
	}
	var out strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&out, `\x%02x`, text[0])
		case harmless(r, lines):
			out.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&out, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			fmt.Fprintf(&out, `\U%08x`, r)
		}
		text = text[size:]
	}
	return out.String()
}

func clean(text string, lines bool) bool {
	if !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if !harmless(r, lines) {
			return false
		}
	}
	return true
}

// harmless reports whether a character can be shown. unicode.IsPrint is false for controls, marks of direction and other formats,
// private characters, and all spaces but the common one.
func harmless(r rune, lines bool) bool {
	return unicode.IsPrint(r) || lines && (r == '\n' || r == '\t')
}
