package feed

import (
	"context"
	"fmt"
	"io"
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

// A kill while the position is saved makes a later run send again what follows the one before.
func TestNoMoreIsSentThanIsAheadOfTheSavedPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sends{byKey: map[string][]sequin.Message{}}
		saved, most := int64(0), int64(0)
		at, err := Run(t.Context(), t.Context(), Config{
			Input: strings.NewReader(lines(50, 1)), ID: "id", Lines: 1, Parse: ParseMessage, OnRefused: func(Refused) {},
			Send: func(_ context.Context, key string, messages []sequin.Message) error { s.add(key, messages); return nil },
			OnProgress: func(at Position) error {
				time.Sleep(time.Hour)
				most = max(most, int64(s.count())-saved)
				require.EqualValues(t, ahead, at.InFlight)
				saved = at.Line
				return nil
			},
		})
		require.NoError(t, err)
		require.EqualValues(t, ahead, most)
		require.EqualValues(t, 50, saved)
		require.Zero(t, at.InFlight)
	})
}

// The first batch is refused for good, while the second is stored. An earlier run has stored others.
func TestWhatMayBeStoredIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for earlier, want := range map[int64]int64{0: 8, 100: 96} {
			at, err := Run(t.Context(), t.Context(), Config{
				Input: strings.NewReader(lines(12, 1)), ID: "id", Lines: 4, Start: Position{Sent: 7, InFlight: earlier}, Parse: ParseMessage,
				Send: func(_ context.Context, _ string, messages []sequin.Message) error {
					if messages[0].Key == "k.4" {
						time.Sleep(time.Second)
						return sequin.ErrUnauthorized
					}
					return nil
				},
				OnRefused: func(Refused) {}, OnProgress: func(Position) error { return nil },
			})
			require.ErrorIs(t, err, sequin.ErrUnauthorized)
			require.EqualValues(t, 11, at.Sent)
			require.Equal(t, want, at.InFlight)
		}
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

// repeated is a line of so many characters, without an end.
type repeated int64

func (r *repeated) Read(p []byte) (int, error) {
	if *r == 0 {
		return 0, io.EOF
	}
	n := min(int64(*r), int64(len(p)))
	for i := range n {
		p[i] = 'x'
	}
	*r -= repeated(n)
	return int(n), nil
}

// The line has more bytes than may be kept in memory. What is before it and after it is sent.
func TestALineThatIsTooLongIsRefusedAndTheOthersSent(t *testing.T) {
	const size = maxLine + 300_000
	for _, after := range []string{"\n" + lines(2, 1), ""} {
		long := repeated(size)
		s := &sends{byKey: map[string][]sequin.Message{}}
		var refused []Refused
		at, err := Run(t.Context(), t.Context(), Config{
			Input: io.MultiReader(strings.NewReader(lines(3, 1)), &long, strings.NewReader(after)), ID: "id", Lines: 1000, Parse: ParseMessage,
			Send:      func(_ context.Context, key string, messages []sequin.Message) error { s.add(key, messages); return nil },
			OnRefused: func(r Refused) { refused = append(refused, r) }, OnProgress: func(Position) error { return nil },
		})
		require.NoError(t, err)
		before, sent := len(lines(3, 1)), 3+strings.Count(after, "key")
		require.Equal(t, Position{int64(before + size + len(after)), int64(sent + 1), int64(sent), 1, 0}, at)
		require.Equal(t, []Refused{{4, int64(before), strings.Repeat("x", longText), errLongLine}}, refused)
	}
}

// The buffer is given back: a batch with the line keeps only its beginning.
func TestALineThatIsTooLongTakesNoMemory(t *testing.T) {
	long := repeated(2 * maxLine)
	b, err := newScanner(t.Context(), &long, false, Position{}, 1000).next()
	require.Equal(t, io.EOF, err)
	require.Less(t, cap(b.raw)+cap(b.long.text), 2*longText)
}

func TestAByteOrderMarkIsNotAPartOfTheFirstLine(t *testing.T) {
	for input, sent := range map[string]int64{"\uFEFF" + lines(2, 1): 2, lines(1, 1) + "\uFEFF" + lines(1, 1): 1} {
		runFeed(t, input, 1000, accept, func(_ *sends, at Position, err error) {
			require.NoError(t, err)
			require.Equal(t, sent, at.Sent)
			require.EqualValues(t, len(input), at.Offset)
		})
	}
}

// Two batches have one key. The second waits for the first, although there is room, so that the messages of the key keep their
// order. The third has another key.
func TestABatchWaitsForOneInFlightThatHasOneOfItsKeys(t *testing.T) {
	input := `{"key":"a","data":1}` + "\n" + `{"key":"a","data":2}` + "\n" + `{"key":"b","data":3}` + "\n"
	began := map[string]time.Duration{}
	var start time.Time
	send := func(s *sends, _ string, messages []sequin.Message) error {
		s.mu.Lock()
		if start.IsZero() {
			start = time.Now()
		}
		began[messages[0].Data] = time.Since(start)
		s.mu.Unlock()
		time.Sleep(time.Second)
		return nil
	}
	runFeed(t, input, 1, send, func(_ *sends, _ Position, err error) {
		require.NoError(t, err)
		require.Equal(t, map[string]time.Duration{"1": 0, "2": time.Second, "3": time.Second}, began)
	})
}

// With more lines the feed gives up, but here nothing is left to give up.
func TestAFeedThatIsRefusedToItsEndIsDone(t *testing.T) {
	for batches, want := range map[int]error{1: nil, 30: errHopeless} {
		runFeed(t, strings.Repeat("{}\n", batches*hopeless), hopeless, accept, func(_ *sends, at Position, err error) {
			require.Equal(t, want, err)
			if want == nil {
				require.EqualValues(t, hopeless, at.Refused)
			}
		})
	}
}

// The signal comes while the last batch is in flight. Its answer completes the feed.
func TestAFeedWhoseLastBatchIsInFlightEndsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for batches, want := range map[int]error{1: nil, 20: context.Canceled} {
			ctx, stop := context.WithCancel(t.Context())
			_, err := Run(ctx, t.Context(), Config{
				Input: strings.NewReader(lines(batches, 1)), ID: "id", Lines: 1, Parse: ParseMessage,
				Send:      func(context.Context, string, []sequin.Message) error { time.Sleep(time.Second); stop(); return nil },
				OnRefused: func(Refused) {}, OnProgress: func(Position) error { return nil },
			})
			require.Equal(t, want, err)
		}
	})
}
