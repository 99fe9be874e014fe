package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sequin-go/sequin/server"
	"github.com/sequin-go/sequin/server/durable"
)

// opening is how long a server takes to open what an earlier process left when it was killed, and what it needs.
type opening struct {
	Contender string
	Messages  int // of 100 bytes
	Keyed     bool
	Open      time.Duration
	Rounds    []time.Duration
	Disk      int64 // bytes of the directory
	Filled    int64 // resident bytes of the process that stored the messages, with its server
	Resident  int64 // resident bytes after the opening
}

// The kinds of servers that a child process runs.
const (
	childOwn  = "sequin"
	childPeer = "jetstream"
)

// served is the line that a child prints when its server answers.
type served struct {
	URL  string
	Open time.Duration
}

// serveChild opens a directory and serves it until the process is killed.
func serveChild(kind, dir string) error {
	began := time.Now()
	if kind == childPeer {
		s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true,
			StoreDir: dir, NoLog: true, NoSigs: true, JetStreamMaxMemory: 8 << 30, JetStreamMaxStore: 32 << 30})
		if err != nil {
			return err
		}
		s.Start()
		if !s.ReadyForConnections(5 * time.Minute) {
			return fmt.Errorf("nats-server did not start")
		}
		return announce(served{s.ClientURL(), time.Since(began)})
	}
	st, err := durable.Open(dir, durable.Options{Sync: durable.SyncEvery(diskSyncPeriod)})
	if err != nil {
		return err
	}
	took := time.Since(began)
	url, _, err := serve(server.New(server.Config{Store: st}))
	if err != nil {
		return err
	}
	return announce(served{url, took})
}

// announce prints what the parent needs, and waits for the end of the parent or for its kill.
func announce(s served) error {
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// child is a server in a process of its own.
type child struct {
	served
	cmd *exec.Cmd
}

func startChild(ctx context.Context, kind, dir string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, exe, "-serve", kind, "-dir", dir)}
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if _, err := c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &c.served)
	}
	if err != nil {
		c.kill()
		return nil, fmt.Errorf("%s did not open %s: %w", kind, dir, err)
	}
	return c, nil
}

// kill ends the process as kill -9 does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// resident returns the resident memory of the child in bytes, or 0 on a system without /proc.
func (c *child) resident() int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if size, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(size), " kB"), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// directoryBytes returns how much of the disk the files of a directory take.
func directoryBytes(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}

// maxPeerOpening is the largest number of messages that JetStream stores for an opening. More take it minutes.
const maxPeerOpening = 1_000_000

// measureOpenings fills a directory, kills the server, and opens it again several times.
func measureOpenings(ctx context.Context, opts options, all *results) error {
	all.Openings = nil
	var rows [][]string
	for _, n := range opts.openings {
		for _, o := range []opening{
			{Contender: childOwn, Messages: n}, {Contender: childOwn, Messages: n, Keyed: true}, {Contender: childPeer, Messages: n},
		} {
			if o.Contender == childPeer && n > maxPeerOpening {
				continue
			}
			progress("opening, %s, %s messages, keyed %v", o.Contender, thousands(float64(n)), o.Keyed)
			if err := o.measure(ctx, opts.rounds); err != nil {
				return fmt.Errorf("%s, %d messages: %w", o.Contender, n, err)
			}
			all.Openings = append(all.Openings, o)
			rows = append(rows, o.row())
		}
	}
	table("Opening after a kill, messages of 100 bytes", openingHeader, rows)
	return nil
}

var openingHeader = []string{"messages", "stream", "opened in", "of rounds", "disk a message", "memory after the opening", "memory after storing"}

func (o *opening) measure(ctx context.Context, rounds int) error {
	dir, err := tempDir(o.Contender)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c, err := startChild(ctx, o.Contender, dir)
	if err != nil {
		return err
	}
	err = o.fill(ctx, c)
	o.Filled = c.resident()
	c.kill()
	if err != nil {
		return err
	}
	if o.Disk, err = directoryBytes(dir); err != nil {
		return err
	}
	var resident []float64
	for range rounds {
		if c, err = startChild(ctx, o.Contender, dir); err != nil {
			return err
		}
		o.Rounds = append(o.Rounds, c.Open)
		resident = append(resident, float64(c.resident()))
		c.kill()
	}
	o.Open, o.Resident = median(o.Rounds), int64(median(resident))
	return nil
}

// fill publishes the messages, each with a key of its own.
func (o *opening) fill(ctx context.Context, c *child) error {
	if o.Contender == childPeer {
		p, err := dialPeer(ctx, c.URL, peerOptions{storage: jetstream.FileStorage, keyed: o.Keyed})
		if err != nil {
			return err
		}
		defer p.close()
		return inParts(o.Messages, func(all []sample) error { return p.send(ctx, all) })
	}
	if err := prepare(ctx, c.URL, o.Keyed); err != nil {
		return err
	}
	return inParts(o.Messages, func(all []sample) error {
		_, err := settings{}.send(ctx, c.URL, slices.Values(all))
		return err
	})
}

// inParts calls send with n samples, a part at a time, so that they need not all be in memory.
func inParts(n int, send func([]sample) error) error {
	const part = 100_000
	text := payload(100)
	data := []byte(text)
	for from := 0; from < n; from += part {
		all := make([]sample, min(part, n-from))
		for i := range all {
			all[i] = sample{key(from + i), text, data}
		}
		if err := send(all); err != nil {
			return err
		}
	}
	return nil
}

func (o *opening) row() []string {
	stream := "sequin, append"
	switch {
	case o.Contender == childPeer:
		stream = "JetStream, file"
	case o.Keyed:
		stream = "sequin, one message per key"
	}
	spread := fmt.Sprintf("%.2f–%.2f s", slices.Min(o.Rounds).Seconds(), slices.Max(o.Rounds).Seconds())
	return []string{thousands(float64(o.Messages)), stream, fmt.Sprintf("%.2f s", o.Open.Seconds()), spread,
		fmt.Sprintf("%d B", o.Disk/int64(o.Messages)), megabytes(o.Resident), megabytes(o.Filled)}
}

func megabytes(bytes int64) string { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }
