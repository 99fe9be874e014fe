package sequin

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEncodeJSONReturnsTheMessageOrAPermanentError(t *testing.T) {
	m, err := EncodeJSON("orders.1", map[string]int{"qty": 4})
	require.NoError(t, err)
	require.Equal(t, Message{Key: "orders.1", Data: `{"qty":4}`}, m)
	m, err = EncodeJSON("orders.1", math.NaN())
	require.True(t, IsPermanent(err), "the same value will never encode")
	var unsupported *json.UnsupportedValueError
	require.ErrorAs(t, err, &unsupported)
	require.ErrorContains(t, err, `sequin: encode "orders.1" from float64: `)
	require.Zero(t, m)
}
