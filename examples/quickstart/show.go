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

// requestCounter is a transport that counts requests by path.
type requestCounter struct {
	transport *http.Transport
	mu        sync.Mutex
	paths     map[string]int
}

func newRequestCounter() *requestCounter {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32 // the default of 2 would make every other request dial
	return &requestCounter{transport: t, paths: map[string]int{}}
}

func (c *requestCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.paths[r.URL.Path]++
	c.mu.Unlock()
	return c.transport.RoundTrip(r)
}

// count returns how many requests had a path that contains part.
func (c *requestCounter) count(part string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for path, times := range c.paths {
		if strings.Contains(path, part) {
			n += times
		}
	}
	return n
}

// progressLine shows progress until it is stopped.
type progressLine struct {
	quit, done chan struct{}
	once       sync.Once
}

// show prints progress until stop: on a terminal it updates one line, elsewhere it prints a line each second.
func show(sent *writer, readers []*reader, total int) *progressLine {
	t := &progressLine{quit: make(chan struct{}), done: make(chan struct{})}
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
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
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

func (t *progressLine) stop() {
	t.once.Do(func() { close(t.quit) })
	<-t.done
}

func printTable(sent *writer, readers []*reader, requests *requestCounter) {
	for _, r := range readers {
		fmt.Printf("%s was nacked on purpose, and redelivered after %v\n", r.nacked, r.redeliveredAfter.Round(100*time.Microsecond))
	}
	fmt.Println()
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tsent\tdelivered\tacked\tredelivered\tmessages/s\trequests\t")
	stats, took := sent.progress()
	fmt.Fprintf(t, "publisher\t%d\t\t\t\t%.0f\t%d\t\n", stats.Sent, float64(stats.Sent)/took.Seconds(), requests.count("/messages"))
	acked := 0
	for _, r := range readers {
		fmt.Fprintf(t, "%s\t\t%d\t%d\t%d\t%.0f\t%d\t\n", r.filter, r.delivered, r.acked, r.redelivered,
			float64(r.acked)/r.took.Seconds(), requests.count(r.consumer))
		acked += r.acked
	}
	t.Flush()
	one := int(stats.Sent) + 2*acked // a send, a receive and an ack for each message
	fmt.Printf("\n%d requests in all; one request per message would have been %d.\n", requests.count(""), one)
}
