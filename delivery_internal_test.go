package sequin

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/internal/lease"
)

// deliveriesOf returns what is made of an answer.
func deliveriesOf(decode func(*fetched, []Delivery, *stateBlocks, Acknowledger, []byte) ([]Delivery, error), body string) (f *fetched, ds []Delivery, err error) {
	now, terms := time.Now(), lease.NewTerms(30*time.Second, 0)
	f = &fetched{lease: lease.New(now, 0, now, terms, terms, context.Background())}
	ds, err = decode(f, nil, new(stateBlocks), new(settler), []byte(body))
	return f, ds, err
}

func TestTheDeliveriesOfAnAnswerAreSortedBySeq(t *testing.T) {
	f, ds, err := deliveriesOf((*fetched).decode, `{"data":[{"ack_id":"d","message":{"key":"d","seq":7}},{"ack_id":"c","message":{"key":"c","seq":3}},`+
		`{"ack_id":"a","message":{"key":"a","seq":1}},{"ack_id":"b","message":{"key":"b","seq":1}}]}`)
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c", "d"}, keysOfDeliveries(ds))
	for _, d := range ds {
		require.Equal(t, d.AckID, d.state.ackID)
		require.Same(t, f, d.state.fetched)
	}
}

func TestADeliveryKnowsHowManyLeasesHaveExpired(t *testing.T) {
	_, ds, err := deliveriesOf((*fetched).decode, `{"data":[{"ack_id":"a","deliver_count":3,"message":{"key":"a"}},`+
		`{"ack_id":"b","deliver_count":3,"message":{"key":"b"},"expired_count":1},{"ack_id":"c","deliver_count":3,"message":{"key":"c"},"expired_count":2}]}`)
	require.NoError(t, err)
	for i, d := range ds {
		require.Equal(t, i, d.state.expired())
		require.Equal(t, 3, d.Attempt)
	}
}

func TestAnAnswerThatIsCutIsAnError(t *testing.T) {
	_, _, err := deliveriesOf((*fetched).decode, `{"data":[{"ack_id":"a","message":{"key":"a"}},{`)
	require.ErrorContains(t, err, "the text ends")
	_, _, err = deliveriesOf((*fetched).decodeChanges, `{"data":[{"ack_id":"a","data":{}},{`)
	require.ErrorContains(t, err, "the text ends")
}
