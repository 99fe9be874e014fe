package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// eventLog is a file to which one process appends a line for each event. Lines are written without a buffer, so that they
// are not lost when the process is killed.
type eventLog struct {
	mu   sync.Mutex // held while a line is written
	file *os.File
}

// The kinds of events.
const (
	sent     = "sent"     // a receipt reported that the message was sent
	received = "received" // a worker received the message
	acked    = "acked"    // AckSync reported that the message was acked
)

func openEventLog(path string) (*eventLog, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &eventLog{file: file}, err
}

func (l *eventLog) note(what, id string) error {
	return l.noteAt(what, id, time.Now())
}

func (l *eventLog) noteAt(what, id string, at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := fmt.Fprintf(l.file, "%s %d %s\n", what, at.UnixNano(), id)
	return err
}

// events holds the events of all processes by message id.
type events struct {
	sent      map[string]bool
	consumers map[string]*consumerEvents
}

// consumerEvents holds the events at one consumer, by message id. Times are in nanoseconds.
type consumerEvents struct {
	received map[string][]int64
	acked    map[string]int64
}

// readEvents reads the event logs in a directory. Their names are producer.NAME and worker.CONSUMER.NAME.
func readEvents(dir string, consumers []string) (*events, error) {
	e := &events{sent: map[string]bool{}, consumers: map[string]*consumerEvents{}}
	for _, name := range consumers {
		e.consumers[name] = &consumerEvents{received: map[string][]int64{}, acked: map[string]int64{}}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		of := strings.Split(file.Name(), ".")
		var consumer *consumerEvents
		if of[0] == "worker" {
			consumer = e.consumers[of[1]]
		}
		if err := e.read(filepath.Join(dir, file.Name()), consumer); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (e *events) read(path string, consumer *consumerEvents) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var what, id string
		var at int64
		if _, err := fmt.Sscanf(lines.Text(), "%s %d %s", &what, &at, &id); err != nil {
			return fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		switch {
		case what == sent:
			e.sent[id] = true
		case consumer == nil:
			return fmt.Errorf("%s: %q needs a consumer", path, lines.Text())
		case what == received:
			consumer.received[id] = append(consumer.received[id], at)
		case what == acked:
			consumer.acked[id] = at
		}
	}
	return lines.Err()
}

// check returns an error for each message that was lost or delivered after its ack, or nil.
func (e *events) check() error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(e.consumers)) {
		c := e.consumers[name]
		for id := range e.sent {
			if len(c.received[id]) == 0 {
				wrong = append(wrong, fmt.Errorf("lost: %s was sent, and no worker of %s received it", id, name))
			}
		}
		for id, at := range c.acked {
			for _, again := range c.received[id] {
				if again > at {
					wrong = append(wrong, fmt.Errorf("twice: %s was acked at %s, and received again %v later", id, name, time.Duration(again-at)))
				}
			}
		}
	}
	const shown = 10
	if len(wrong) > shown {
		wrong = append(wrong[:shown], fmt.Errorf("and %d more", len(wrong)-shown))
	}
	return errors.Join(wrong...)
}

func (e *events) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "  messages confirmed as sent   %7d\n", len(e.sent))
	for _, name := range slices.Sorted(maps.Keys(e.consumers)) {
		c, times := e.consumers[name], 0
		for _, all := range c.received {
			times += len(all)
		}
		fmt.Fprintf(&s, "  %s: messages received   %7d, %d times in all, %d acks confirmed\n", name, len(c.received), times, len(c.acked))
	}
	return s.String()
}
