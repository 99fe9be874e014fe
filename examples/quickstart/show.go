package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// wire counts the requests on their way.
type wire struct {
	transport *http.Transport
	mu        sync.Mutex
	paths     map[string]int
}

func newWire() *wire {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32 // the default keeps 2, and dials anew for every other request of ours
	return &wire{transport: t, paths: map[string]int{}}
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.paths[r.URL.Path]++
	w.mu.Unlock()
	return w.transport.RoundTrip(r)
}

// count returns how many requests had a path with that in it.
func (w *wire) count(part string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for path, times := range w.paths {
		if strings.Contains(path, part) {
			n += times
		}
	}
	return n
}

// ticker shows progress until it is stopped.
type ticker struct {
	quit, done chan struct{}
	once       sync.Once
}

// show prints progress: one line that moves on a terminal, a line a second elsewhere.
func show(sent *writer, readers []*reader, total int) *ticker {
	t := &ticker{quit: make(chan struct{}), done: make(chan struct{})}
	every, begin, end := time.Second, "", "\n"
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		every, begin, end = 50*time.Millisecond, "\r", ""
	}
	line := func() {
		stats, _ := sent.progress()
		fmt.Printf("%ssent %6d of %d", begin, stats.Sent, total)
		for _, r := range readers {
			r.mu.Lock()
			fmt.Printf(" · %s %5d of %d acked", r.name, r.acked, r.expected)
			r.mu.Unlock()
		}
		fmt.Print(end)
	}
	go func() {
		defer close(t.done)
		beat := time.NewTicker(every)
		defer beat.Stop()
		for {
			select {
			case <-beat.C:
				line()
			case <-t.quit:
				line()
				fmt.Println()
				return
			}
		}
	}()
	return t
}

func (t *ticker) stop() {
	t.once.Do(func() { close(t.quit) })
	<-t.done
}

func printTable(sent *writer, readers []*reader, wire *wire) {
	for _, r := range readers {
		fmt.Printf("%s was nacked on purpose, and came again after %v\n", r.refused, r.back.Round(100*time.Microsecond))
	}
	fmt.Println()
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tsent\tdelivered\tacked\tredelivered\tmessages/s\trequests\t")
	stats, took := sent.progress()
	fmt.Fprintf(t, "publisher\t%d\t\t\t\t%.0f\t%d\t\n", stats.Sent, float64(stats.Sent)/took.Seconds(), wire.count("/messages"))
	acked := 0
	for _, r := range readers {
		fmt.Fprintf(t, "consumer %s\t\t%d\t%d\t%d\t%.0f\t%d\t\n", r.filter, r.delivered, r.acked, r.redelivered,
			float64(r.acked)/r.took.Seconds(), wire.count(r.consumer))
		acked += r.acked
	}
	t.Flush()
	one := int(stats.Sent) + 2*acked // a send, a receive and an ack a message
	fmt.Printf("\n%d requests in all; a request a message would have been %d.\n", wire.count(""), one)
}
