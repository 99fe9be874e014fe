package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

func TestAFailureOfWhatTheUserDidNotChooseIsNoWrongUsage(t *testing.T) {
	require.NoError(t, Failed(nil))
	require.Equal(t, ExitFailed, ExitCode(OfClient(Failed(sequin.ErrInvalidKey))))
	require.Equal(t, ExitNotFound, ExitCode(OfClient(Failed(&sequin.APIError{Status: 404}))))
}

func TestOnlyAnAnswerOfAServerThatFailedHasTheIDOfItsRequest(t *testing.T) {
	answer := func(status int, foreign bool) error {
		return fmt.Errorf("x: %w", &sequin.APIError{Status: status, Foreign: foreign, Summary: "why", RequestID: fmt.Sprint("id-", status)})
	}
	require.Contains(t, Line(answer(500, false)), "why [request id-500]")
	require.Contains(t, Line(answer(404, true)), "[request id-404]", "the log of the proxy has it")
	require.NotContains(t, Line(answer(404, false)), "[request")
	both := Line(errors.Join(answer(409, false), answer(503, false)))
	require.NotContains(t, both, "id-409")
	require.Contains(t, both, "id-503")
}

func TestTheStatusOfAnAnswerIsSaidOnce(t *testing.T) {
	for summary, want := range map[string]string{
		"Not found: no stream": "404 Not Found: no stream", "Not Found": "404 Not Found", "Not foundling": "404 Not Found: Not foundling", "gone": "404 Not Found: gone",
	} {
		line := Line(fmt.Errorf("x: %w", &sequin.APIError{Method: "GET", Path: "/s", Status: 404, Summary: summary}))
		require.Contains(t, line+"\n", want+"\n")
	}
}
