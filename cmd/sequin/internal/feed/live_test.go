package feed

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin"
)

// liveFeed is a feed of a pipe whose writer stays open.
type liveFeed struct {
	t          *testing.T
	began      time.Time
	in         *io.PipeWriter
	stop, kill context.CancelFunc
	send       func(messages []sequin.Message) error

	got   []string // the data and when it was sent
	ended chan struct{}
	at    Position // when it has ended
	err   error
}

// runLive feeds what test writes, in batches of three lines.
func runLive(t *testing.T, test func(f *liveFeed)) {
	synctest.Test(t, func(t *testing.T) {
		in, out := io.Pipe()
		defer out.Close()
		f := &liveFeed{t: t, began: time.Now(), in: out, ended: make(chan struct{}), send: func([]sequin.Message) error { return nil }}
		ctx, stop := context.WithCancel(t.Context())
		sendCtx, kill := context.WithCancel(t.Context())
		f.stop, f.kill = stop, kill
		defer stop()
		defer kill()
		go func() {
			defer close(f.ended)
			f.at, f.err = Run(ctx, sendCtx, Config{
				Input: in, ID: "id", Lines: 3, Live: true, Parse: ParseMessage, OnRefused: func(Refused) {}, OnProgress: func(Position) error { return nil },
				Send: func(ctx context.Context, _ string, messages []sequin.Message) error {
					text := time.Since(f.began).String()
					for _, m := range messages {
						text += " " + m.Data
					}
					f.got = append(f.got, text)
					return f.send(messages)
				},
			})
		}()
		test(f)
	})
}

// write writes lines with the data, which all have one key, so that their batches are sent one after the other.
func (f *liveFeed) write(data ...string) {
	for _, d := range data {
		f.text(`{"key":"k","data":` + d + "}\n")
	}
}

// pass lets time pass. What was sent until then can be read.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (f *liveFeed) text(text string) {
	_, err := io.WriteString(f.in, text)
	require.NoError(f.t, err)
	synctest.Wait()
}

func TestTheLinesOfAPipeDoNotWaitForABatch(t *testing.T) {
	runLive(t, func(f *liveFeed) {
		f.write("1", "2")
		pass(time.Minute)
		require.Equal(t, []string{"100ms 1 2"}, f.got)
		f.write("3", "4", "5")
		require.Equal(t, "1m0s 3 4 5", f.got[1], "a full batch does not wait at all")
		f.write("6")
		pass(60 * time.Millisecond)
		f.text(`{"key":"k",`)
		pass(60 * time.Millisecond)
		require.Equal(t, "1m0.1s 6", f.got[2], "the time counts from the first line of a batch")
		f.text(`"data":7}`)
		pass(time.Minute)
		require.Len(t, f.got, 3, "the line has no end yet")
		f.text("\n")
		pass(time.Minute)
		require.Equal(t, "2m0.22s 7", f.got[3])
		f.write("8")
		pass(60 * time.Millisecond)
		f.write("9")
		pass(60 * time.Millisecond)
		require.Equal(t, "3m0.22s 8 9", f.got[4], "the second line does not make the first wait longer")
		require.NoError(t, f.in.Close())
		<-f.ended
		require.NoError(t, f.err)
		require.EqualValues(t, 9, f.at.Sent)
	})
}

// The second batch waits for the first. When the first ends, no more is read, but the line of the third is there already.
func TestWhatIsReadOfAPipeIsSentAfterTheEndOfReading(t *testing.T) {
	runLive(t, func(f *liveFeed) {
		f.send = func([]sequin.Message) error { time.Sleep(time.Hour); return nil }
		f.write("1", "2", "3", "4", "5", "6", "7")
		f.text(`{"key":"k","data":"half`)
		f.stop()
		<-f.ended
		require.ErrorIs(t, f.err, context.Canceled)
		require.Equal(t, []string{"0s 1 2 3", "1h0m0s 4 5 6", "2h0m0s 7"}, f.got)
		require.EqualValues(t, 7, f.at.Line, "the last line has no end")
	})
}

func TestNothingOfAPipeIsSentAfterTheEndOfSending(t *testing.T) {
	runLive(t, func(f *liveFeed) {
		f.send = func([]sequin.Message) error { time.Sleep(time.Hour); return context.Canceled }
		f.write("1", "2", "3", "4", "5", "6", "7")
		f.stop()
		f.kill()
		<-f.ended
		require.ErrorIs(t, f.err, context.Canceled)
		require.Equal(t, []string{"0s 1 2 3"}, f.got)
	})
}

func TestALineOfAPipeThatIsTooLongIsRefused(t *testing.T) {
	runLive(t, func(f *liveFeed) {
		f.write("1")
		f.text(strings.Repeat("x", maxLine+1))
		time.Sleep(time.Second) // the batch is due, but its line goes on
		f.text("x\n")
		f.write("2")
		require.NoError(t, f.in.Close())
		<-f.ended
		require.NoError(t, f.err)
		require.EqualValues(t, 2, f.at.Sent)
		require.EqualValues(t, 1, f.at.Refused)
	})
}

func TestASilentPipeIsNotWaitedForAfterTheEndOfReading(t *testing.T) {
	runLive(t, func(f *liveFeed) {
		synctest.Wait()
		f.stop()
		<-f.ended
		require.ErrorIs(t, f.err, context.Canceled)
		require.Equal(t, f.began, time.Now())
	})
}
