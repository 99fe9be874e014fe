package backend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
	"github.com/sequin-go/sequin/examples/internal/backend"
)

func TestTheServerOfTheEnvironmentIsUsed(t *testing.T) {
	t.Setenv("SEQUIN_URL", "http://127.0.0.1:1")
	found, err := backend.Find()
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:1", found.URL)
	require.Contains(t, found.Where, "$SEQUIN_URL")
	found.Stop()
}

func TestWithoutSequinURLAServerIsStarted(t *testing.T) {
	t.Setenv("SEQUIN_URL", "")
	client, found, err := backend.Connect()
	require.NoError(t, err)
	_, err = client.CreateStream(t.Context(), "orders", sequin.StreamOptions{})
	require.NoError(t, err)
	found.Stop()
	_, err = client.GetStream(t.Context(), "orders")
	require.ErrorIs(t, err, sequin.ErrUnreachable)
}

func TestAWrongURLIsReported(t *testing.T) {
	t.Setenv("SEQUIN_URL", "nonsense")
	_, _, err := backend.Connect()
	require.ErrorIs(t, err, sequin.ErrInvalidConfig)
}
