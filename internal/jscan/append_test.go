package jscan

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestAppendStringEscapesOnlyWhatJSONRequires(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{``, `""`},
		{`plain`, `"plain"`},
		{`{"qty":4}`, `"{\"qty\":4}"`},
		{`a\b`, `"a\\b"`},
		{"\b\f\n\r\t", `"\b\f\n\r\t"`},
		{"\x00\x01\x1f", `"\u0000\u0001\u001f"`},
		{"<a href='x'>&/\x7f", "\"<a href='x'>&/\x7f\""},
		{"grüße, 世界 🙂 \u2028\u2029", "\"grüße, 世界 🙂 \u2028\u2029\""},
		{"\xff", "\"\uFFFD\""},
		{"a\xe4\xb8", "\"a\uFFFD\uFFFD\""},
		{"\xed\xa0\x80", "\"\uFFFD\uFFFD\uFFFD\""},
		{strings.Repeat("x", 7) + `"` + strings.Repeat("y", 9), `"xxxxxxx\"yyyyyyyyy"`},
	} {
		require.Equal(t, c.want, string(AppendString(nil, c.in)), "%q", c.in)
		require.Equal(t, "before "+c.want, string(AppendStringBytes([]byte("before "), []byte(c.in))), "%q", c.in)
	}
}

func TestStringSizeIsTheSizeOfTheAppendedString(t *testing.T) {
	for _, s := range []string{"", "plain", "\"\\\n\x01\x1f\x7f", "grüße 世界 🙂", strings.Repeat("12345678", 9) + "\""} {
		size, ok := StringSize(s)
		require.True(t, ok, "%q", s)
		require.Equal(t, len(AppendString(nil, s)), size, "%q", s)
	}
}

func TestStringSizeRefusesInvalidUTF8AndNUL(t *testing.T) {
	for _, s := range []string{"\x00", "0123456789\x00", "\"\x00", "\n1234567\x00", "\n12345678\x00", "\"\xff", "\xff", "0123456789\xff", "\xe4\xb8", "\xed\xa0\x80", "\xc0\x80"} {
		size, ok := StringSize(s)
		require.False(t, ok, "%q", s)
		require.Zero(t, size, "%q", s)
	}
}

// TestEveryByteAtEveryOffsetIsHandledAlike moves each byte through all offsets in a word, because words and single bytes are
// handled by different code.
func TestEveryByteAtEveryOffsetIsHandledAlike(t *testing.T) {
	for b := range 256 {
		for offset := range 42 {
			s := strings.Repeat("a", offset) + string([]byte{byte(b)}) + strings.Repeat("\xc3\xa9", 5)
			quoted := AppendString(nil, s)
			var back string
			require.NoError(t, json.Unmarshal(quoted, &back), "%q", quoted)
			require.Equal(t, strings.ToValidUTF8(s, "\uFFFD"), back)

			var scan Scanner
			scan.Reset([]byte(`"` + s + `"`))
			valid := json.Valid([]byte(`"` + s + `"`))
			scan.String()
			require.Equal(t, valid, scan.Done() == nil, "%q", s)
			scan.Reset([]byte(`"` + s + `"`))
			scan.Skip()
			require.Equal(t, valid, scan.Done() == nil, "%q", s)
		}
	}
}

// TestWideCharactersAgreeWithPackageUTF8 covers each way in which up to three bytes begin a character or do not.
func TestWideCharactersAgreeWithPackageUTF8(t *testing.T) {
	marks := []byte{0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff}
	check := func(s string) {
		end, valid := wideEnd(s, 0)
		require.True(t, utf8.ValidString(s[:end]), "%q", s)
		require.Equal(t, utf8Broken(s[end:]), !valid, "%q", s)
		require.True(t, !valid || end == len(s) || s[end] < utf8.RuneSelf, "%q", s)
	}
	for lead := range 256 {
		check(string([]byte{byte(lead)}))
		for _, second := range marks {
			check(string([]byte{byte(lead), second}))
			for _, third := range marks {
				check(string([]byte{byte(lead), second, third}))
				check(string([]byte{byte(lead), second, third, 0x80, 'x'}))
			}
		}
	}
}

// utf8Broken reports whether s begins with a byte that begins no character.
func utf8Broken(s string) bool {
	r, size := utf8.DecodeRuneInString(s)
	return r == utf8.RuneError && size == 1
}

func TestAStringInWhichNothingIsEscapedIsAppendedAsItIs(t *testing.T) {
	for _, s := range []string{"", "plain", "é世🙂", strings.Repeat("long ", 100)} {
		size, ok := StringSize(s)
		require.True(t, ok)
		require.Equal(t, VerbatimSize(s), size)
		require.Equal(t, string(AppendString(nil, s)), string(AppendVerbatim(nil, s)))
	}
	for _, s := range []string{`"`, `\`, "\n", "\x1f", strings.Repeat("long ", 100) + `"`} {
		size, _ := StringSize(s)
		require.NotEqual(t, VerbatimSize(s), size, s)
	}
}

func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "plain ASCII of more than eight bytes", "\"\\/\b\f\n\r\t\x00\x1f\x7f", "é世🙂\u2028", "a\xffb\xe4\xb8"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := AppendString(nil, s)
		if string(quoted) != string(AppendStringBytes(nil, []byte(s))) {
			t.Fatalf("%q: AppendString and AppendStringBytes differ", s)
		}
		var got, want string
		if err := json.Unmarshal(quoted, &got); err != nil {
			t.Fatalf("%q → %s: %v", s, quoted, err)
		}
		theirs, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(theirs, &want); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("%q is read back as %q, and as %q if encoding/json writes it", s, got, want)
		}
		if !utf8.Valid(quoted) {
			t.Fatalf("%q: not UTF-8", quoted)
		}
		size, ok := StringSize(s)
		if ok && size == VerbatimSize(s) && string(AppendVerbatim(nil, s)) != string(quoted) {
			t.Fatalf("%q is not the same text", s)
		}
		if survives := utf8.ValidString(s) && !strings.Contains(s, "\x00"); ok != survives {
			t.Fatalf("%q: StringSize reports ok %t", s, ok)
		}
		if ok && size != len(quoted) {
			t.Fatalf("%q: StringSize is %d, but %d bytes were written", s, size, len(quoted))
		}
	})
}
