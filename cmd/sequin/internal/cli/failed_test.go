package cli

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

func TestAFailureOfWhatTheUserDidNotChooseIsNoWrongUsage(t *testing.T) {
	require.NoError(t, Failed(nil))
	require.Equal(t, ExitFailed, ExitCode(OfClient(Failed(sequin.ErrInvalidKey))))
	require.Equal(t, ExitNotFound, ExitCode(OfClient(Failed(&sequin.APIError{Status: 404}))))
}
