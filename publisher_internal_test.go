package sequin

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/batch"
)

func TestFailuresThatAreReportedLeaveNoMemory(t *testing.T) {
	engine := batch.New(batch.Config[outgoing, batchState]{Lanes: 1})
	reported := 0
	f := failures{engine: engine, report: func(MessageError) { reported++ }}
	failed := make([]messageEntry, 1000)
	for i := range failed {
		failed[i].Item.Key = strconv.Itoa(i)
	}
	f.add(failed, ErrTooLarge)
	f.await(t.Context())
	require.Equal(t, 1000, reported)
	require.Nil(t, f.kept)
	require.Nil(t, f.byKey)
}

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
