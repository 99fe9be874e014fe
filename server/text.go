package server

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// isText reports whether a JSON body holds characters only: UTF-8, and no escape of half a surrogate pair. The real
// server's decoder takes either for malformed. Ours would put U+FFFD in their place, and store what nobody has sent.
func isText(body []byte) bool { return utf8.Valid(body) && !holdsHalfPair(body) }

// holdsHalfPair reports whether a \uXXXX of the body is a surrogate that no other one makes whole. What is no escape at
// all is left for the parser to refuse.
func holdsHalfPair(body []byte) bool {
	for i := 0; ; {
		n := bytes.Index(body[i:], []byte(`\u`))
		if n < 0 {
			return false
		}
		i += n
		before := body[:i]
		if (len(before)-len(bytes.TrimRight(before, `\`)))%2 == 1 {
			i += 2 // the backslash is itself escaped, and the u stands for itself
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

// unit returns the UTF-16 unit of the \uXXXX at the beginning of b, -1 when there is none.
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
