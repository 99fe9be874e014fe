package server_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/server"
)

// probe is a line of testdata/probes-2024.jsonl: a request to the server of August 2024 with its answer. The source says
// whether it was probed, or derived from how that server is built. The requests in before are made first, on a server with a
// stream s and a consumer c of all its messages.
type probe struct {
	Name, Source string
	Before       [][]string // method, path and body
	Method, Path string
	Headers      map[string][]string // default: Content-Type: application/json if there is a body
	Body         string

	Status           int
	Answer, Contains *string // the body of the answer, or a part of it
	Type             string  // its content type; "" for any
}

func probes(t *testing.T) []probe {
	t.Helper()
	f, err := os.Open("testdata/probes-2024.jsonl")
	require.NoError(t, err)
	defer f.Close()
	var all []probe
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var p probe
		require.NoErrorf(t, json.Unmarshal(lines.Bytes(), &p), "%s", lines.Text())
		all = append(all, p)
	}
	return all
}

// TestAug2024AnswersEveryProbeAsTheRealServer sends each probe to a server of its own.
func TestAug2024AnswersEveryProbeAsTheRealServer(t *testing.T) {
	all := probes(t)
	require.Greater(t, len(all), 200)
	for _, p := range all {
		t.Run(p.Name, func(t *testing.T) {
			a := newAPI(t, server.Config{Compat: server.Aug2024}).withStream("", "")
			for _, step := range p.Before {
				before := probe{Method: step[0], Path: step[1]}
				if len(step) > 2 {
					before.Body = step[2]
				}
				got := a.probe(before)
				require.Equalf(t, 200, got.status, "before: %v: %s", step, got.body)
			}
			got := a.probe(p)
			require.Equalf(t, p.Status, got.status, "%.300s", got.body)
			if p.Answer != nil {
				require.Equal(t, *p.Answer, got.body)
			}
			if p.Contains != nil {
				require.Contains(t, got.body, *p.Contains)
			}
			if p.Type != "" {
				require.Equal(t, p.Type, got.header.Get("Content-Type"))
			}
		})
	}
}

// probe sends a probe.
func (a *api) probe(p probe) reply {
	r := httptest.NewRequest(p.Method, expand(p.Path), strings.NewReader(expand(p.Body)))
	if p.Headers == nil && p.Body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for name, lines := range p.Headers {
		for _, line := range lines {
			r.Header[name] = append(r.Header[name], expand(line))
		}
	}
	w := httptest.NewRecorder()
	a.ServeHTTP(w, r)
	body := w.Body.String()
	if p.Method == "HEAD" {
		body = ""
	}
	return reply{w.Code, w.Header(), body}
}

var generatedText = regexp.MustCompile(`\{\{(?:(.)\*|messages )(\d+)\}\}`)

// expand replaces {{x*3}} by xxx, and {{messages 3}} by the body of a send of three messages.
func expand(text string) string {
	return generatedText.ReplaceAllStringFunc(text, func(what string) string {
		parts := generatedText.FindStringSubmatch(what)
		n, err := strconv.Atoi(parts[2])
		if err != nil {
			panic(fmt.Sprintf("%s: %v", what, err))
		}
		if parts[1] == "" {
			return messagesBody(n, "k%d")
		}
		return strings.Repeat(parts[1], n)
	})
}
