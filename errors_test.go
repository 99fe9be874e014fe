package sequin_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/sequintest"
)

// answered returns the APIError of a request with this answer, and the request.
func answered(t *testing.T, status int, header http.Header, body string) (*sequin.APIError, sequintest.Request) {
	t.Helper()
	var api *sequin.APIError
	var request sequintest.Request
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{Retry: sequin.RetryConfig{MaxAttempts: 1}})
		w.Fault(sequintest.Fault{Status: status, Header: header, Body: body})
		_, err := w.client.GetStream(w.ctx, "orders")
		require.ErrorAs(t, err, &api)
		request = w.Requests()[0]
	})
	return api, request
}

func TestAnAPIErrorIsMadeFromAnyBody(t *testing.T) {
	type fields = map[string][]string
	for _, row := range []struct {
		name    string
		status  int
		body    string
		summary string
		fields  fields
		says    string // part of the text
	}{
		{"Sequin's own", 404, `{"summary":"Not found: no stream"}`, "Not found: no stream", nil, "Not found: no stream"},
		{"empty", 502, "", "", nil, "502 Bad Gateway ["},
		{"HTML of a proxy", 502, "<html>\n<head><title>502 Bad Gateway</title></head>\n", "", nil,
			`"<html> <head><title>502 Bad Gateway</title></head>"`},
		{"plain text", 413, "Request Entity Too Large", "", nil, `"Request Entity Too Large"`},
		{"a 500 without a summary", 500, `{"errors":{"detail":"Internal Server Error"}}`, "", nil, "Internal Server Error"},
		{"an array", 500, `[{"summary":"x"}]`, "", nil, "summary"},
		{"a string", 500, `"x"`, "", nil, `"\"x\""`},
		{"null", 500, `null`, "", nil, `"null"`},
		{"a summary that is no string", 400, `{"summary":{"en":"x"}}`, "", nil, "summary"},
		{"truncated", 404, `{"summary":"Not fou`, "", nil, "Not fou"},
		{"not UTF-8", 500, "a\xff\x00b", "", nil, `a\x00b`},
		{"endless", 500, strings.Repeat("x", 100_000), "", nil, `xxx…"`},
		{"validation", 422, `{"summary":"Validation failed","validation_errors":{"name":["can't be blank","is short"],"kind":["is invalid"]}}`,
			"Validation failed", fields{"name": {"can't be blank", "is short"}, "kind": {"is invalid"}},
			"Validation failed (kind is invalid; name can't be blank, is short)"},
		{"validation whose summary names the reason", 422, `{"summary":"Validation failed: name is taken","validation_errors":{"name":["is taken"],"kind":["is bad"]}}`,
			"Validation failed: name is taken", fields{"name": {"is taken"}, "kind": {"is bad"}}, "422 Unprocessable Entity: Validation failed: name is taken (kind is bad) [request"},
		{"validation by one text", 422, `{"summary":"Validation failed","validation_errors":{"name":"is taken"}}`,
			"Validation failed", fields{"name": {"is taken"}}, "(name is taken)"},
		{"validation of a nested field", 422, `{"summary":"Validation failed","validation_errors":{"name":["is taken"],"sink":{"url":["is bad"]}}}`,
			"Validation failed", fields{"name": {"is taken"}, "sink": {`{"url":["is bad"]}`}}, `(name is taken; sink {"url":["is bad"]})`},
		{"validation as a list", 422, `{"summary":"Validation failed","validation_errors":["name is taken"]}`, "Validation failed", nil, "Validation failed ["},
		{"validation null", 422, `{"summary":"Validation failed","validation_errors":null}`, "Validation failed", nil, "Validation failed ["},
		{"validation empty", 422, `{"summary":"Validation failed","validation_errors":{}}`, "Validation failed", nil, "Validation failed ["},
	} {
		t.Run(row.name, func(t *testing.T) {
			api, _ := answered(t, row.status, nil, row.body)
			require.Equal(t, row.status, api.Status)
			require.Equal(t, row.summary, api.Summary)
			require.Equal(t, row.fields, api.ValidationErrors)
			require.Equal(t, http.MethodGet, api.Method)
			require.Equal(t, "/api/streams/orders", api.Path)
			require.True(t, strings.HasPrefix(api.Error(), "sequin: GET /api/streams/orders: "), api.Error())
			require.Contains(t, api.Error(), row.says)
			require.Less(t, len(api.Error()), 400, "the text fits a line of a log")
		})
	}
}

func TestAnAPIErrorMatchesOnlyTheSentinelOfItsStatus(t *testing.T) {
	sentinels := []error{sequin.ErrNotFound, sequin.ErrValidation, sequin.ErrUnauthorized, sequin.ErrTooLarge,
		sequin.ErrStreamFull, sequin.ErrRateLimited, sequin.ErrUnreachable, sequin.ErrOutcomeUnknown}
	of := map[int]error{400: sequin.ErrValidation, 422: sequin.ErrValidation, 401: sequin.ErrUnauthorized,
		403: sequin.ErrUnauthorized, 404: sequin.ErrNotFound, 409: sequin.ErrStreamFull, 413: sequin.ErrTooLarge,
		429: sequin.ErrRateLimited}
	for status := 100; status < 600; status++ {
		for _, sentinel := range sentinels {
			err := error(&sequin.APIError{Status: status})
			require.Equal(t, of[status] == sentinel, errors.Is(err, sentinel), "%d and %v", status, sentinel)
		}
	}
}

func TestTheRequestIDIsTheAnswersElseTheRequests(t *testing.T) {
	api, _ := answered(t, 500, http.Header{"X-Request-Id": {"F8w-of-the-server"}}, "")
	require.Equal(t, "F8w-of-the-server", api.RequestID)
	require.Contains(t, api.Error(), "[request F8w-of-the-server]")

	api, request := answered(t, 413, nil, "") // the real server answers 413 without an id
	require.NotEmpty(t, api.RequestID)
	require.Equal(t, request.Header.Get("X-Request-Id"), api.RequestID)
}

// A RoundTripper of a test or of a cache may leave Response.Request and Header nil.
func TestAMinimalTransportIsEnough(t *testing.T) {
	c, err := sequin.NewClient(sequin.Config{HTTPClient: answers(404, `{"summary":"none"}`)})
	require.NoError(t, err)
	_, err = c.GetStream(t.Context(), "orders")
	require.ErrorIs(t, err, sequin.ErrNotFound)
	var api *sequin.APIError
	require.ErrorAs(t, err, &api)
	require.NotEmpty(t, api.RequestID)
}

func TestRefusalsOfTheServerMatchTheirSentinels(t *testing.T) {
	inBothModes(t, func(t *testing.T, w *world) {
		w.stream(t, "s", sequin.ConsumerOptions{})
		_, err := w.client.GetStream(w.ctx, "none")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		require.ErrorContains(t, err, "Not found: No `stream` found matching the provided ID or name")
		_, err = w.client.GetConsumer(w.ctx, "s", "none")
		require.ErrorIs(t, err, sequin.ErrNotFound)
		_, err = w.client.CreateStream(w.ctx, "a b", sequin.StreamOptions{})
		require.ErrorIs(t, err, sequin.ErrValidation)
		var api *sequin.APIError
		require.ErrorAs(t, err, &api)
		require.Equal(t, 422, api.Status)
		require.Len(t, api.ValidationErrors["name"], 1)
	})
}

func TestTheErrorOfAnUnreachableServerSaysWhatToCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, sequintest.Config{}, sequin.Config{})
		w.Down()
		_, err := w.client.ListStreams(w.ctx)
		require.ErrorIs(t, err, sequin.ErrUnreachable)
		require.EqualError(t, err, "sequin: cannot reach http://sequin.test (dial memory server:80: connect: connection refused): "+
			"is the server running, and does Config.BaseURL or $SEQUIN_URL name it? (4 attempts)")
	})
}
