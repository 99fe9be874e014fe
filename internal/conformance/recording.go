package conformance

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// Exchange is a line of the recording: what was asked of the server of August 2024, and what it answered.
type Exchange struct {
	N       int // the order of recording; the lines build on one another, and some are absent
	Case    string
	Request struct {
		Method, Path string
		Headers      map[string]string
		Body         *string
		CurlFlags    []string `json:"curl_flags"`
	}
	Response Answer
}

// Answer is what the recorded server answered.
type Answer struct {
	Status  int
	Headers map[string]string
	Body    string
}

//go:embed streams-api.jsonl
var recording []byte

// Recording returns all of it in its order. Package server plays the whole story against the embedded server; here its
// refusals are cases of their own, which hold without the story.
func Recording(tb testing.TB) []Exchange {
	tb.Helper()
	var all []Exchange
	for lines := bufio.NewScanner(bytes.NewReader(recording)); lines.Scan(); {
		var x Exchange
		require.NoError(tb, json.Unmarshal(lines.Bytes(), &x))
		all = append(all, x)
	}
	require.Len(tb, all, 132)
	return all
}

// storied are refusals that follow from what happened before them, or that need another kind of request.
var storied = map[int]string{
	85:  "its body is only described; a case of its own sends one as large",
	87:  "the same",
	167: "asked by HTTP/1.0",
	168: "asked by HTTP/2",
	171: "the consumer was deleted before",
	173: "the stream was deleted before",
}

// onlyIn2024 are refusals that the documentation does not have: names may hold dashes and the texts say so, long polls
// exist, and the stream of a path counts.
var onlyIn2024 = map[int]bool{4: true, 5: true, 27: true, 103: true, 104: true, 115: true}

// recordedCases play every recorded refusal (4xx) with a stream and a consumer of their own.
func recordedCases() []Case {
	return []Case{{"what was recorded as refused is refused in the same words", func(t *testing.T, target Target) {
		for _, x := range Recording(t) {
			if _, skip := storied[x.N]; skip || x.Response.Status/100 != 4 || onlyIn2024[x.N] && target.Mode != server.Aug2024 {
				continue
			}
			s := newSession(t, target)
			got := s.replay(x, s.consumer("m.>", ""))
			about := fmt.Sprintf("n=%d %s", x.N, x.Case)
			require.Equal(t, x.Response.Status, got.status, about)
			require.Equal(t, x.Response.Headers["content-type"], got.header.Get("Content-Type"), about)
			require.Equal(t, x.Response.Body, got.body, about)
		}
	}}}
}

// replay sends a recorded request, with the session's stream and consumer in the place of the recorded ones.
func (s *session) replay(x Exchange, consumer string) answer {
	s.Helper()
	path := strings.NewReplacer("/s1_r/consumers/c/", "/"+s.stream+"/consumers/"+consumer+"/",
		"/s1_r/consumers/w/", "/"+s.stream+"/consumers/"+consumer+"/", "/s1_r/", "/"+s.stream+"/", "/s1/", "/"+s.stream+"/").Replace(x.Request.Path)
	body := ""
	if x.Request.Body != nil {
		body = *x.Request.Body
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r, err := http.NewRequest(x.Request.Method, s.URL+path, reader)
	require.NoError(s, err)
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // curl's own, where the recording says nothing
	}
	for name, value := range x.Request.Headers {
		r.Header.Set(name, value)
	}
	resp, err := s.Client.Do(r)
	require.NoErrorf(s, err, "n=%d", x.N)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	return answer{resp.StatusCode, resp.Header, string(text)}
}
