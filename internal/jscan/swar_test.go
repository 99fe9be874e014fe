package jscan

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestIndexEscapeFindsWhatBytesIndexFinds(t *testing.T) {
	parts := []string{`\`, `u`, `\u`, `\"`, `]v`, `tu`, "\xdc\xf5", `plain text`}
	for range 100_000 {
		var s []byte
		for range rand.N(12) {
			s = append(s, parts[rand.N(len(parts))]...)
		}
		from := rand.N(len(s) + 1)
		want := bytes.Index(s[from:], []byte(`\u`))
		if want >= 0 {
			want += from
		}
		if got := IndexEscape(s, from); got != want {
			t.Fatalf("%q from %d: %d, must be %d", s, from, got, want)
		}
	}
}
