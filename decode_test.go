package sequin_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

type order struct {
	Qty int `json:"qty"`
}

func TestDecodeJSON(t *testing.T) {
	for _, tc := range []struct {
		data string
		want order
		bad  bool
	}{
		{data: `{"qty":4}`, want: order{4}},
		{data: `{"qty":4,"of a newer producer":1}`, want: order{4}},
		{data: `{}`},
		{data: ``, bad: true},
		{data: `{"qty":"four"}`, bad: true},
		{data: `{"qty":4}{`, bad: true},
	} {
		got, err := sequin.DecodeJSON[order](sequin.Delivery{Key: "orders.7", Data: tc.data})
		if tc.bad {
			require.ErrorContains(t, err, `"orders.7"`, tc.data)
			require.ErrorContains(t, err, "sequin_test.order", tc.data)
			continue
		}
		require.NoError(t, err, tc.data)
		require.Equal(t, tc.want, got, tc.data)
	}
}

func TestPermanentKeepsWhatItMarks(t *testing.T) {
	var syntax *json.SyntaxError
	_, err := sequin.DecodeJSON[order](sequin.Delivery{Data: `{`})
	require.ErrorAs(t, err, &syntax)

	marked := sequin.Permanent(errDown)
	require.ErrorIs(t, marked, errDown)
	require.EqualError(t, marked, errDown.Error())
	require.ErrorIs(t, fmt.Errorf("order 7: %w", marked), errDown)
	require.NoError(t, sequin.Permanent(nil))
	require.False(t, errors.Is(errDown, marked))
}
