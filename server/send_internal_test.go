package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAFullStreamRefusesTheWholeBatch makes a gigabyte 100 bytes, so that it can be filled.
func TestAFullStreamRefusesTheWholeBatch(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	s.gigabyte = 100
	post := func(path, body string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	created := post("/api/streams", `{"name":"s","max_storage_gb":1,"retain_at_least":2}`)
	require.Contains(t, created.Body.String(), `"max_storage_gb":1,"retain_up_to":null,"retain_at_least":2`)
	message := func(key string, size int) string {
		return `{"key":"` + key + `","data":"` + strings.Repeat("x", size-len(key)) + `"}`
	}
	send := func(messages ...string) *httptest.ResponseRecorder {
		return post("/api/streams/s/messages", `{"messages":[`+strings.Join(messages, ",")+`]}`)
	}
	require.Equal(t, http.StatusOK, send(message("a", 40), message("b", 40)).Code)
	require.Equal(t, http.StatusOK, send(message("c", 40)).Code, "the oldest message is dropped")

	refused := send(message("d", 90))
	require.Equal(t, http.StatusConflict, refused.Code)
	require.Contains(t, refused.Body.String(), `"summary":"Stream is full`)

	state, _ := s.Inspect("s")
	require.Len(t, state.Messages, 2, "the batch would leave one message only, so it is refused and nothing is dropped")
	require.Equal(t, "b", state.Messages[0].Key)
	require.Equal(t, "c", state.Messages[1].Key)
}

// TestEscapedStringsStayWhenTheTextMoves sends so many escaped strings that the buffer for them grows, beside others that are
// used where they are in the body.
func TestEscapedStringsStayWhenTheTextMoves(t *testing.T) {
	in := new(sendRequest)
	defer in.release()
	var body, want []string
	for i := range 100 {
		key, plain := fmt.Sprint("key", i), fmt.Sprint("plain", i)
		body = append(body,
			fmt.Sprintf(`{"data":"\"%d\n","key":"\u006b%d"}`, i, i),
			fmt.Sprintf(`{"data":"dropped\n","key":"%s","data":"%s"}`, key, plain),
			fmt.Sprintf(`{"key":"%s","data":""}`, key))
		want = append(want, fmt.Sprintf("k%d=\"%d\n", i, i), key+"="+plain, key+"=")
	}
	require.True(t, in.parse([]byte(`{"messages":[`+strings.Join(body, ",")+`]}`)))
	require.NoError(t, in.invalid)
	got := make([]string, len(in.messages))
	for i, m := range in.messages {
		got[i] = m.Key + "=" + m.Data
	}
	require.Equal(t, want, got)
}

// TestNothingOfARequestStaysInThePool checks what a parsed request leaves in the pool.
func TestNothingOfARequestStaysInThePool(t *testing.T) {
	in := new(sendRequest)
	require.True(t, in.parse([]byte(`{"messages":[{"key":"a","data":"x"},{"key":"b","data":"y"}]}`)))
	all := in.messages
	require.Len(t, all, 2)
	in.release()
	require.Zero(t, all[0])
	require.Zero(t, all[1])
}
