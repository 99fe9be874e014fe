package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sequin-go/sequin"
)

// linkDelay is what the link of the part "link" adds to each round trip.
const linkDelay = 50 * time.Millisecond

// linkMessages is how many messages are measured over the link. The rate includes its beginning, in which the library finds
// its numbers of requests: less than a second.
const linkMessages = 500_000

// linkCells are the settings that are measured over the link. The first of each work is the zero config.
func linkCells() []contender {
	over := func(run func(context.Context, string, int, int) (time.Duration, error)) func(context.Context, int, int) (time.Duration, error) {
		return func(ctx context.Context, n, size int) (time.Duration, error) { return onLink(ctx, n, size, run) }
	}
	cells := []contender{{linkName, "consume", "(defaults)", over(settings{}.consume)}}
	for _, pollers := range []int{2, 8, 32} {
		s := settings{subscriber: sequin.SubscriberConfig{Pollers: pollers, MaxInFlight: 100_000}}
		cells = append(cells, contender{linkName, "consume", fmt.Sprintf("Pollers %d", pollers), over(s.consume)})
	}
	cells = append(cells, contender{linkName, "publish", "(defaults)", over(settings{}.publishOn)})
	for _, lanes := range []int{4, 16, 64} {
		s := settings{publisher: sequin.PublisherConfig{Lanes: lanes}}
		cells = append(cells, contender{linkName, "publish", fmt.Sprintf("Lanes %d", lanes), over(s.publishOn)})
	}
	return cells
}

// measureLink measures what the library does by itself over a link with a long delay, and what settings do.
func measureLink(ctx context.Context, opts options, all *results) (err error) {
	opts.counts = map[int]int{100: linkMessages}
	if opts.quick {
		opts.counts[100] = linkMessages / 10
	}
	if all.Link, err = measureCells(ctx, opts, []int{100}, linkCells()); err != nil {
		return err
	}
	var rows [][]string
	for _, x := range all.Link {
		rows = append(rows, []string{x.Work, x.Contender, thousands(x.PerSecond)})
	}
	table(fmt.Sprintf("Over a link that adds %v to each round trip", linkDelay), []string{"work", "setting", "messages/s"}, rows)
	return nil
}

// publishTime is how long a Publisher sends over the link for linkMessages. The number of messages differs by a factor of ten
// between the settings, and the rate includes the beginning, in which the Publisher finds the number of its lanes.
const publishTime = 10 * time.Second

// publishOn publishes for publishTime, or a part of it for fewer messages, and returns how long n of the messages took.
func (s settings) publishOn(ctx context.Context, url string, n, size int) (time.Duration, error) {
	all, sent := samples(100_000, size, false), 0
	length := publishTime * time.Duration(n) / linkMessages
	took, err := s.send(ctx, url, func(yield func(sample) bool) {
		for began := time.Now(); sent%1000 > 0 || time.Since(began) < length; sent++ {
			if !yield(all[sent%len(all)]) {
				return
			}
		}
	})
	return time.Duration(float64(took) * float64(n) / float64(sent)), err
}

// onLink runs a measurement against a stub behind a link.
func onLink(ctx context.Context, n, size int, run func(context.Context, string, int, int) (time.Duration, error)) (time.Duration, error) {
	url, stop, err := serveFar(stubOf(size, false), linkDelay)
	if err != nil {
		return 0, err
	}
	defer stop()
	return run(ctx, url, n, size)
}

// serveFar is serve behind a link that delays all bytes by half of delay, in each direction.
func serveFar(h http.Handler, delay time.Duration) (url string, stop func(), err error) {
	near, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	link := &link{Listener: near, delay: delay / 2}
	web := &http.Server{Handler: h}
	go web.Serve(link) // ends with Close
	return "http://" + near.Addr().String(), func() { _ = web.Close(); link.pipes.Wait() }, nil
}

// link is a listener whose connections delay what they carry.
type link struct {
	net.Listener
	delay time.Duration
	pipes sync.WaitGroup
}

// Accept returns the near end of a pipe, whose far end is the accepted connection.
func (l *link) Accept() (net.Conn, error) {
	far, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	near, end := net.Pipe()
	l.pipes.Go(func() { carry(far, end, l.delay) })
	l.pipes.Go(func() { carry(end, far, l.delay) })
	return near, nil
}

// parcel is what has arrived at one end of a link, and when it leaves at the other.
type parcel struct {
	bytes []byte
	at    time.Time
}

// carry copies from one connection to the other, each byte after a delay, and closes both when one of them ends.
func carry(from, to net.Conn, delay time.Duration) {
	onTheWay := make(chan parcel, 1<<12) // far more than arrives within a delay
	var out sync.WaitGroup
	out.Go(func() {
		defer from.Close()
		defer to.Close()
		for p := range onTheWay {
			time.Sleep(time.Until(p.at))
			if _, err := to.Write(p.bytes); err != nil {
				break
			}
		}
		for range onTheWay { // so that the reader ends
		}
	})
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			onTheWay <- parcel{bytes.Clone(b[:n]), time.Now().Add(delay)}
		}
		if err != nil {
			break
		}
	}
	close(onTheWay)
	out.Wait()
}
