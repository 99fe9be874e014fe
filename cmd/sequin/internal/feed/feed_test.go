package feed

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// sends keeps what is sent, by idempotency key.
type sends struct {
	mu    sync.Mutex
	byKey map[string][]sequin.Message
}

func (s *sends) add(key string, messages []sequin.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byKey[key] = messages
}

func (s *sends) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byKey)
}

// lines returns n messages, each with a key of its own and so many bytes of data.
func lines(n, size int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, `{"key":"k.%d","data":"%s"}`+"\n", i, strings.Repeat("x", size))
	}
	return text.String()
}

// runFeed sends the input in batches of so many lines, in virtual time. send is called after the messages are kept.
func runFeed(t *testing.T, input string, perBatch int, send func(s *sends, key string, messages []sequin.Message) error, test func(s *sends, at Position, err error)) {
	synctest.Test(t, func(t *testing.T) {
		s := &sends{byKey: map[string][]sequin.Message{}}
		at, err := Run(t.Context(), t.Context(), Config{
			Input: strings.NewReader(input), ID: "id", Lines: perBatch, Parse: ParseMessage,
			Send: func(_ context.Context, key string, messages []sequin.Message) error {
				s.add(key, messages)
				return send(s, key, messages)
			},
			OnRefused: func(Refused) {}, OnProgress: func(Position) error { return nil },
		})
		test(s, at, err)
	})
}

func accept(*sends, string, []sequin.Message) error { return nil }

func TestEachPartOfARefusedBatchHasAKeyOfItsOwn(t *testing.T) {
	refuse := func(_ *sends, _ string, messages []sequin.Message) error {
		if len(messages) > 1 {
			return sequin.ErrValidation
		}
		return nil
	}
	runFeed(t, lines(8, 1), 4, refuse, func(s *sends, at Position, err error) {
		require.NoError(t, err)
		require.EqualValues(t, 8, at.Sent)
		require.Equal(t, 14, s.count(), "two batches, each with two halves of two messages")
	})
}

func TestABatchIsNotMuchLargerThanAMegabyte(t *testing.T) {
	runFeed(t, lines(10, 300_000), 1000, accept, func(s *sends, at Position, err error) {
		require.NoError(t, err)
		require.EqualValues(t, 10, at.Sent)
		require.Equal(t, 3, s.count(), "four lines in a request")
	})
}

// The server has taken a batch, so that an error that passes would be waited for.
func TestAnErrorThatDoesNotPassEndsTheFeedAtOnce(t *testing.T) {
	var began time.Time
	forbid := func(_ *sends, _ string, messages []sequin.Message) error {
		if messages[0].Key == "k.0" {
			began = time.Now()
			return nil
		}
		time.Sleep(time.Second) // until the first batch is taken
		return sequin.ErrUnauthorized
	}
	runFeed(t, lines(100, 1), 10, forbid, func(_ *sends, _ Position, err error) {
		require.ErrorIs(t, err, sequin.ErrUnauthorized)
		require.Equal(t, time.Second, time.Since(began))
	})
}

// TestTheFirstBatchHoldsThePosition lets the first batch take an hour. A later run would send again what follows it.
func TestTheFirstBatchHoldsThePosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sends{byKey: map[string][]sequin.Message{}}
		var positions []Position
		_, err := Run(t.Context(), t.Context(), Config{
			Input: strings.NewReader(lines(50, 1)), ID: "id", Lines: 1, Parse: ParseMessage,
			Send: func(_ context.Context, key string, messages []sequin.Message) error {
				s.add(key, messages)
				if messages[0].Key == "k.0" {
					time.Sleep(time.Hour)
					require.Equal(t, ahead, s.count(), "no more than these are sent again")
					require.Empty(t, positions)
				}
				return nil
			},
			OnRefused: func(Refused) {}, OnProgress: func(at Position) error { positions = append(positions, at); return nil },
		})
		require.NoError(t, err)
		require.EqualValues(t, 50, positions[len(positions)-1].Line)
	})
}

func TestTheKeyOfABatchDependsOnTheFileThePlaceAndTheBytes(t *testing.T) {
	keys := map[string]bool{}
	for _, id := range []string{"a", "b"} {
		for _, offset := range []int64{0, 7} {
			for _, raw := range []string{"x\n", "y\n"} {
				keys[idempotencyKey(id, offset, []byte(raw))] = true
				keys[idempotencyKey(id, offset, []byte(raw))] = true
			}
		}
	}
	require.Len(t, keys, 8)
}

// endless is a line without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestALineWithoutAnEndIsRefused(t *testing.T) {
	_, err := newScanner(endless{}, Position{}, 1).next()
	require.ErrorIs(t, err, errLongLine)
}
