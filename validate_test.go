package sequin_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// tokens returns a key of n tokens.
func tokens(n int) string { return strings.TrimSuffix(strings.Repeat("t.", n), ".") }

func TestEachRuleOfKeysHasItsError(t *testing.T) {
	for _, row := range []struct{ name, key, says string }{
		{"one token", "orders", ""},
		{"one character", "a", ""},
		{"255 characters", strings.Repeat("k", 255), ""},
		{"16 tokens", tokens(16), ""},
		{"all punctuation but three", "!\"#$%&'()+,-/:;<=?@[\\]^_`{|}~", ""},
		{"empty", "", "is empty"},
		{"256 characters", strings.Repeat("k", 256), "256 characters, at most 255"},
		{"17 tokens", tokens(17), "17 tokens, at most 16"},
		{"a lone dot", ".", "empty token"},
		{"dot first", ".a", "empty token"},
		{"dot last", "a.", "empty token"},
		{"two dots", "a..b", "empty token"},
		{"space", "a b", "' '"},
		{"newline", "a\nb", `'\n'`},
		{"NUL", "a\x00", `'\x00'`},
		{"DEL", "a\x7f", `'\x7f'`},
		{"not ASCII", "café", "'é'"},
		{"not UTF-8", "a\xff", "printable ASCII"},
		{"star", "a.*", "only patterns"},
		{"greater", "a.>", "only patterns"},
		{"star inside", "a*b", "only patterns"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := sequin.CheckKey(row.key)
			if row.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, sequin.ErrInvalidKey)
			require.ErrorContains(t, err, row.says)
			require.Less(t, len(err.Error()), 250, "an error quotes a part of what is long")
		})
	}
}

func TestEachRuleOfPatternsHasItsError(t *testing.T) {
	for _, row := range []struct{ name, pattern, says string }{
		{"everything", ">", ""},
		{"any one token", "*", ""},
		{"star between", "orders.*.new", ""},
		{"all stars", "*.*.*", ""},
		{"greater last", "orders.*.>", ""},
		{"a key", "orders.1", ""},
		{"16 tokens", tokens(15) + ".>", ""},
		{"empty", "", "is empty"},
		{"greater first", ">.a", "not the last token"},
		{"two greater", ">.>", "not the last token"},
		{"star in a token", "a*.b", "wildcard inside"},
		{"greater in a token", "a.b>", "wildcard inside"},
		{"two stars in a token", "**", "wildcard inside"},
		{"17 tokens", tokens(16) + ".>", "17 tokens"},
		{"empty token", "a..>", "empty token"},
		{"space", "a .>", "' '"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := sequin.CheckPattern(row.pattern)
			if row.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, sequin.ErrInvalidPattern)
			require.ErrorContains(t, err, row.says)
		})
	}
}

// The rules as the server's reference states them, without regard to speed.
var (
	keyToken     = regexp.MustCompile(`^[!-~]+$`)
	wildcardRune = regexp.MustCompile(`[*>]`)
)

func naiveKey(key string) bool {
	all := strings.Split(key, ".")
	for _, token := range all {
		if !keyToken.MatchString(token) || wildcardRune.MatchString(token) || strings.HasSuffix(token, "\n") {
			return false
		}
	}
	return len(all) <= 16 && len([]rune(key)) <= 255
}

func naivePattern(pattern string) bool {
	all := strings.Split(pattern, ".")
	for i, token := range all {
		if token == "*" || token == ">" && i == len(all)-1 {
			all[i] = "w"
		}
	}
	return naiveKey(strings.Join(all, "."))
}

func FuzzKey(f *testing.F) {
	for _, key := range []string{"", "a", "a.b", ".", "a..b", "*", ">", "a.>", ">.a", "a*", "é", "a\n", "\xff", "a b",
		tokens(16), tokens(17), strings.Repeat("k", 255), strings.Repeat("k", 256), strings.Repeat("é", 200)} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		require.Equal(t, naiveKey(key), sequin.CheckKey(key) == nil, "key %q", key)
		require.Equal(t, naivePattern(key), sequin.CheckPattern(key) == nil, "pattern %q", key)
	})
}

// The client accepts the same keys and patterns as the server.
func TestTheServerAcceptsTheKeysAndPatternsThatTheClientAccepts(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		for b := range 256 {
			if b == '.' {
				continue
			}
			key := "k" + string([]byte{byte(b)})
			_, err := w.client.SendMessage(w.ctx, "s", key, "1")
			if sequin.CheckKey(key) != nil {
				require.ErrorIs(t, err, sequin.ErrInvalidKey)
			} else {
				require.NoError(t, err)
			}
		}
		for _, pattern := range []string{">", "*", "a.*.>", "*.*", tokens(15) + ".>", strings.Repeat("k", 255)} {
			_, err := w.client.ListMessages(w.ctx, "s", sequin.ListOptions{KeyPattern: pattern})
			require.NoError(t, err, pattern)
		}
	})
}

// nothingSent requires that promise makes no request.
func nothingSent(t *testing.T, w *world, promise func()) {
	t.Helper()
	before := w.Count(sequintest.Any)
	promise()
	require.Equal(t, before, w.Count(sequintest.Any), "a request was sent")
}

func TestDataThatJSONOrPostgresWouldChangeIsRefused(t *testing.T) {
	for name, data := range map[string]string{"not UTF-8": "a\xffb", "a lone surrogate": "\xed\xa0\x80", "NUL": "a\x00b", "NUL alone": "\x00"} {
		t.Run(name, func(t *testing.T) {
			inMode(t, 0, func(t *testing.T, w *world) {
				nothingSent(t, w, func() {
					_, err := w.client.SendMessage(w.ctx, "s", "orders.1", data)
					require.ErrorIs(t, err, sequin.ErrInvalidData)
					require.ErrorContains(t, err, "orders.1")
				})
			})
		})
	}
}

func TestTheLargestMessageFillsTheServersLargestRequest(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		room := sequin.MaxRequestBytes - len(`{"messages":[{"key":"k","data":""}]}`)
		_, err := w.client.SendMessage(w.ctx, "s", "k", strings.Repeat("x", room))
		require.NoError(t, err)
		require.Len(t, w.Requests(sequintest.Send)[0].Body, sequin.MaxRequestBytes)
		nothingSent(t, w, func() {
			_, err = w.client.SendMessage(w.ctx, "s", "k", strings.Repeat("x", room+1))
			require.ErrorIs(t, err, sequin.ErrTooLarge)
			require.ErrorContains(t, err, "8000001 bytes")
			_, err = w.client.SendMessage(w.ctx, "s", "k", strings.Repeat(`"`, room/2+1))
			require.ErrorIs(t, err, sequin.ErrTooLarge, "the encoded size counts")
		})
	})
}

func TestABatchAboveTheSizeOfARequestIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		half := strings.Repeat("x", sequin.MaxRequestBytes/2)
		nothingSent(t, w, func() {
			_, err := w.client.SendMessages(w.ctx, "s", []sequin.Message{{Key: "a", Data: half}, {Key: "b", Data: half}})
			require.ErrorIs(t, err, sequin.ErrTooLarge)
			require.ErrorContains(t, err, "the messages take 80000")
		})
	})
}

func FuzzEncodeSend(f *testing.F) {
	f.Add("orders.1", `{"qty":4}`, "orders.2", "")
	f.Add("a", "é\u2028<>&\x1f\x7f\"\\", `"\`, "\U0001F600")
	f.Add("k", "\xff", "k", "\x00")
	f.Add("a b", "", "a..b", "")
	f.Fuzz(func(t *testing.T, key1, data1, key2, data2 string) {
		messages := []sequin.Message{{Key: key1, Data: data1}, {Key: key2, Data: data2}}
		body, computed, err := sequin.EncodeSend(messages)
		if err != nil {
			return // other tests check which messages are refused
		}
		require.Len(t, body, computed)
		var sent struct {
			Messages []sequin.Message `json:"messages"`
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&sent))
		require.Equal(t, messages, sent.Messages)
	})
}
