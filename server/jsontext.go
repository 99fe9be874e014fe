package server

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/sequin-go/sequin/internal/jscan"
)

// isText reports whether a JSON body is valid UTF-8 without an escape of half a surrogate pair. The real server's decoder
// refuses both as malformed. Go's would replace them by U+FFFD, and the server would store other data than was sent.
func isText(body []byte) bool { return utf8.Valid(body) && !hasHalfPair(body) }

// hasHalfPair reports whether a \uXXXX in the body is a surrogate without the other half of its pair. An invalid escape
// is left to the parser, which refuses it.
func hasHalfPair(body []byte) bool {
	for i := 0; ; {
		if i = jscan.IndexEscape(body, i); i < 0 {
			return false
		}
		before := body[:i]
		if (len(before)-len(bytes.TrimRight(before, `\`)))%2 == 1 {
			i += 2 // the backslash is escaped, so this is not an escape of a character
			continue
		}
		first := unit(body[i:])
		if first < 0 {
			return false
		}
		i += 6
		if utf16.IsSurrogate(first) {
			if utf16.DecodeRune(first, unit(body[i:])) == utf8.RuneError {
				return true
			}
			i += 6
		}
	}
}

// unit returns the UTF-16 unit of the \uXXXX at the start of b, or -1 if there is none.
func unit(b []byte) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	r, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(r)
}
