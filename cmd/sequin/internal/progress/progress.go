// Package progress shows how far long work is: a bar on a terminal, and one line a second elsewhere.
package progress

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// every is how often the progress is shown.
const every = time.Second

// State is how far the work is.
type State struct {
	Count int64   // of what is done
	Part  float64 // of the work that is done, from 0 to 1; below 0 when that is not known
}

// Bar shows the progress of work. It has one goroutine, which Stop ends.
type Bar struct {
	stop, stopped chan struct{}
}

// Start shows the state once a second, with the unit of its count, such as "messages". Work of less than a second shows nothing.
func Start(out io.Writer, terminal bool, unit string, state func() State) *Bar {
	b := &Bar{make(chan struct{}), make(chan struct{})}
	begun := state()
	show, end := lines(out, unit, begun.Count), func() {}
	if terminal {
		show, end = bar(out, unit, begun.Part)
	}
	go func() {
		defer close(b.stopped)
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-b.stop:
				end()
				return
			case <-ticker.C:
				show(state())
			}
		}
	}()
	return b
}

// Stop removes the bar.
func (b *Bar) Stop() {
	close(b.stop)
	<-b.stopped
}

// steps is how finely a bar divides the work.
const steps = 1000

// bar returns functions that draw a bar and remove it. Its time counts from now on. A terminal that is gone shows no progress.
func bar(out io.Writer, unit string, part float64) (show func(State), end func()) {
	total := int64(steps)
	if part < 0 {
		total = -1 // a spinner
	}
	drawn := progressbar.NewOptions64(total, progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(30),
		progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetSpinnerChangeInterval(0)) // otherwise a goroutine draws a spinner, also after Clear
	drawn.Reset()
	shown := false
	return func(s State) {
			shown = true
			drawn.Describe(fmt.Sprintf("%d %s", s.Count, unit))
			if s.Part < 0 {
				_ = drawn.Add(1)
				return
			}
			_ = drawn.Set64(int64(s.Part * (steps - 1))) // the last step would remove the bar
		}, func() {
			if shown {
				_ = drawn.Clear()
			}
		}
}

// lines returns a function that prints a line. last is what is counted already.
func lines(out io.Writer, unit string, last int64) func(State) {
	began := time.Now()
	lastAt := began
	return func(s State) {
		now := time.Now()
		rate := float64(s.Count-last) / now.Sub(lastAt).Seconds()
		last, lastAt = s.Count, now
		part := ""
		if s.Part >= 0 {
			part = fmt.Sprintf(" (%.0f%%)", 100*s.Part)
		}
		fmt.Fprintf(out, "%d %s%s, %.0f a second, after %v\n", s.Count, unit, part, rate, now.Sub(began).Round(time.Second))
	}
}
