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

// account is a file to which one process adds a line for each thing that happened. It is written at once and without a
// buffer, so that a kill loses nothing that was noted.
type account struct {
	mu   sync.Mutex // guards file's lines against one another
	file *os.File
}

// The things that happen.
const (
	sent   = "sent"   // the Publisher said so
	worked = "worked" // a worker has got it
	acked  = "acked"  // the Subscriber said that the server has the ack
)

func openAccount(path string) (*account, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &account{file: file}, err
}

func (a *account) note(what, id string) error {
	return a.noteAt(what, id, time.Now())
}

func (a *account) noteAt(what, id string, at time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := fmt.Fprintf(a.file, "%s %d %s\n", what, at.UnixNano(), id)
	return err
}

// books are the accounts of all processes together.
type books struct {
	sent      map[string]bool
	consumers map[string]*consumerBook
}

// consumerBook is what happened to messages at one consumer: when, in nanoseconds.
type consumerBook struct {
	worked map[string][]int64
	acked  map[string]int64
}

// readBooks reads the accounts in a directory: producer.NAME and worker.CONSUMER.NAME.
func readBooks(dir string, consumers []string) (*books, error) {
	b := &books{sent: map[string]bool{}, consumers: map[string]*consumerBook{}}
	for _, name := range consumers {
		b.consumers[name] = &consumerBook{worked: map[string][]int64{}, acked: map[string]int64{}}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		of := strings.Split(file.Name(), ".")
		var consumer *consumerBook
		if of[0] == "worker" {
			consumer = b.consumers[of[1]]
		}
		if err := b.read(filepath.Join(dir, file.Name()), consumer); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *books) read(path string, consumer *consumerBook) error {
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
			b.sent[id] = true
		case consumer == nil:
			return fmt.Errorf("%s: %q belongs to no consumer", path, lines.Text())
		case what == worked:
			consumer.worked[id] = append(consumer.worked[id], at)
		case what == acked:
			consumer.acked[id] = at
		}
	}
	return lines.Err()
}

// add tells what does not add up, nil when all does.
func (b *books) add() error {
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(b.consumers)) {
		c := b.consumers[name]
		for id := range b.sent {
			if len(c.worked[id]) == 0 {
				wrong = append(wrong, fmt.Errorf("lost: %s was sent, and no worker of %s got it", id, name))
			}
		}
		for id, at := range c.acked {
			for _, again := range c.worked[id] {
				if again > at {
					wrong = append(wrong, fmt.Errorf("twice: %s was acked at %s, and handed out again %v later", id, name, time.Duration(again-at)))
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

func (b *books) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "  sent, as told to producers   %7d\n", len(b.sent))
	for _, name := range slices.Sorted(maps.Keys(b.consumers)) {
		c, times := b.consumers[name], 0
		for _, all := range c.worked {
			times += len(all)
		}
		fmt.Fprintf(&s, "  %s: messages worked on   %7d, %d times in all, %d acks confirmed\n", name, len(c.worked), times, len(c.acked))
	}
	return s.String()
}
