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

// Exchange is a line of the recording: a request to the server of August 2024, and its answer.
type Exchange struct {
	N       int // the number in the order of recording; later lines depend on earlier ones, and some numbers are missing
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

// Recording returns all recorded exchanges in their order. The tests of package server replay the whole sequence against the
// embedded server. recordedCases replays only the refusals, each by itself.
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

// notReplayable are refusals that depend on earlier requests, or that need another kind of request, with the reason.
var notReplayable = map[int]string{
	85:  "its body is only described; another case sends one of that size",
	87:  "the same",
	167: "sent by HTTP/1.0",
	168: "sent by HTTP/2",
	171: "the consumer was deleted before",
	173: "the stream was deleted before",
}

// onlyIn2024 are refusals of the 2024 server that the documented server does not make, or makes with another text: there,
// names may contain dashes, receives may wait, an ack id may be any UUID, and a consumer must belong to the stream in the path.
var onlyIn2024 = map[int]bool{4: true, 5: true, 27: true, 103: true, 104: true, 113: true, 115: true}

// recordedCases returns a case that replays every recorded refusal (4xx), each with a new stream and consumer.
func recordedCases() []Case {
	return []Case{{"recorded refusals are answered with the same text", func(t *testing.T, target Target) {
		for _, x := range Recording(t) {
			if _, skip := notReplayable[x.N]; skip || x.Response.Status/100 != 4 || onlyIn2024[x.N] && target.Mode != server.Aug2024 {
				continue
			}
			s := newSession(t, target)
			got := s.replay(x, s.consumer("m.>", ""))
			about := fmt.Sprintf("n=%d %s", x.N, x.Case)
			require.Equal(t, x.Response.Status, got.status, about)
			require.Equal(t, x.Response.Headers["content-type"], got.header.Get("Content-Type"), about)
			if target.Mode != server.Aug2024 {
				got.body = strings.Replace(got.body, validationReason(t, got), "", 1)
			}
			require.Equal(t, x.Response.Body, got.body, about)
		}
	}}}
}

// validationReason returns what the documented mode adds to the recorded summary of a 422: the first reason.
func validationReason(t *testing.T, a answer) string {
	t.Helper()
	if a.status != http.StatusUnprocessableEntity {
		return ""
	}
	var parsed struct{ Summary string }
	require.NoError(t, json.Unmarshal([]byte(a.body), &parsed))
	reason, named := strings.CutPrefix(parsed.Summary, "Validation failed")
	require.True(t, named, parsed.Summary)
	require.Regexp(t, `^: \w+ .`, reason)
	return reason
}

// replay sends a recorded request, with the session's stream and consumer instead of the recorded ones.
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
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // curl sends this header by default
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
