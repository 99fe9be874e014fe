package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sequin-go/sequin"
)

// director starts the processes, kills and disconnects them at random, and checks their event logs.
type director struct {
	length    time.Duration
	compat    string
	seed      uint64
	devserver string

	rand    *rand.Rand
	dir     string // of the event logs
	proxy   *proxy
	started int // processes
	killed  int
}

var consumers = []string{"billing", "audit"}

const (
	producersInAll     = 2
	workersPerConsumer = 2
	// leaseLength is short, so that the messages of a killed worker are redelivered during the run.
	leaseLength = 2 * time.Second
	// maxAckPending is more than a run sends, because in the first five minutes of a consumer the 2024 server counts acked
	// messages too.
	maxAckPending = 10_000_000
)

func (d *director) run(ctx context.Context) (err error) {
	if d.devserver == "" {
		return errors.New("-devserver must name the built devserver: run make stress")
	}
	d.rand = rand.New(rand.NewPCG(d.seed, 0))
	if d.dir, err = os.MkdirTemp("", "stress"); err != nil {
		return err
	}
	defer os.RemoveAll(d.dir)
	fmt.Printf("stress: %s for %v, seed %d\n", d.compat, d.length, d.seed)
	srv, at, err := d.serve()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.stop(syscall.SIGTERM)) }()
	target, err := url.Parse(at)
	if err != nil {
		return err
	}
	if d.proxy, err = newProxy(target.Host); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.proxy.close()) }()
	client, err := sequin.NewClient(sequin.Config{BaseURL: at})
	if err != nil {
		return err
	}
	defer client.Close()
	return d.direct(ctx, client)
}

func (d *director) direct(ctx context.Context, client *sequin.Client) error {
	if _, err := client.CreateStream(ctx, streamName, sequin.StreamOptions{}); err != nil {
		return err
	}
	var producers, workers []*process
	for i := range producersInAll {
		producers = append(producers, d.newProcess("producer", fmt.Sprintf("p%d", i), ""))
	}
	for _, name := range consumers {
		if _, err := client.CreateConsumer(ctx, streamName, name, ">", sequin.ConsumerOptions{AckWait: leaseLength, MaxAckPending: maxAckPending}); err != nil {
			return err
		}
		for i := range workersPerConsumer {
			workers = append(workers, d.newProcess("worker", fmt.Sprintf("w%d", i), name))
		}
	}
	all := append(producers, workers...)
	for _, p := range all {
		if err := p.start(); err != nil {
			return err
		}
		defer func() { _ = p.stop(os.Kill) }() // after a success the process has ended already
	}
	if err := d.disturb(ctx, all); err != nil {
		return err
	}
	for _, p := range producers {
		if err := p.stop(syscall.SIGTERM); err != nil {
			return err
		}
	}
	if err := waitUntilDrained(ctx, client); err != nil {
		return err
	}
	for _, p := range workers {
		if err := p.stop(syscall.SIGTERM); err != nil {
			return err
		}
	}
	return d.check()
}

// disturb kills, stops and starts processes, resets connections and replaces answers, for the length of the run.
func (d *director) disturb(ctx context.Context, all []*process) error {
	for end := time.Now().Add(d.length); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100*time.Millisecond + time.Duration(d.rand.Int64N(int64(time.Second)))):
		}
		switch p := all[d.rand.IntN(len(all))]; d.rand.IntN(5) {
		case 0, 1:
			d.proxy.reset()
		case 4:
			d.proxy.replaceAnswers()
		case 2:
			_ = p.stop(os.Kill) // the error is that it was killed
			d.killed++
			if err := p.start(); err != nil {
				return err
			}
		case 3:
			// Connections work while the process shuts down, so it must succeed. Its exit code reports failures.
			if err := p.stop(syscall.SIGTERM); err != nil {
				return err
			}
			if err := p.start(); err != nil {
				return err
			}
		}
	}
	return nil
}

// check prints the totals of the event logs, and checks them.
func (d *director) check() error {
	events, err := readEvents(d.dir, consumers)
	if err != nil {
		return err
	}
	fmt.Printf("%s  processes started %d, killed %d; connections reset %d; answers replaced by a page %d\n",
		events, d.started, d.killed, d.proxy.resets, d.proxy.replaced.Load())
	if len(events.sent) == 0 {
		return errors.New("nothing was sent")
	}
	if err := events.check(); err != nil {
		return err
	}
	fmt.Println("  no message was lost, and none was received after its ack")
	return nil
}

// process is a child process, which may be stopped and started several times.
type process struct {
	director             *director
	role, name, consumer string
	cmd                  *exec.Cmd
	stdin                io.Closer // the child exits when it is closed
}

func (d *director) newProcess(role, name, consumer string) *process {
	return &process{director: d, role: role, name: name, consumer: consumer}
}

// start starts the process, with a new event log.
func (p *process) start() error {
	p.director.started++
	name := fmt.Sprintf("%s%s%d", p.consumer, p.name, p.director.started)
	log := p.role + "." + name
	if p.consumer != "" {
		log = p.role + "." + p.consumer + "." + name
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(self, "-as", p.role, "-url", p.director.proxy.url(), "-name", name, "-consumer", p.consumer,
		"-log", filepath.Join(p.director.dir, log))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	return p.cmd.Start()
}

// stop sends the process a signal and returns its error. It returns nil for a process that was stopped before.
func (p *process) stop(how os.Signal) error {
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	_ = cmd.Process.Signal(how) // fails if the process has ended by itself, and then Wait returns why
	err := cmd.Wait()
	_ = p.stdin.Close() // Wait may have closed it
	if how == syscall.SIGTERM && cmd.ProcessState.String() == "signal: "+how.String() {
		return nil // it was still starting, and did not handle signals yet
	}
	if err != nil {
		return fmt.Errorf("%s %s%s: %w", p.role, p.consumer, p.name, err)
	}
	return nil
}

// serve starts the devserver on a free port and reads its URL from its first lines of output.
func (d *director) serve() (*process, string, error) {
	cmd := exec.Command(d.devserver, "-addr", "127.0.0.1:0", "-compat", d.compat)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, "", err
	}
	if err := cmd.Start(); err != nil {
		return nil, "", err
	}
	srv := &process{director: d, role: "devserver", cmd: cmd, stdin: io.NopCloser(nil)}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		for word := range strings.FieldsSeq(lines.Text()) {
			if strings.HasPrefix(word, "http://127.0.0.1:") {
				go func() { _, _ = io.Copy(io.Discard, out) }() // so that further output does not block the devserver
				u, err := url.Parse(strings.TrimRight(word, ".,;/'\""))
				if err != nil {
					return nil, "", errors.Join(err, srv.stop(os.Kill))
				}
				return srv, "http://" + u.Host, nil
			}
		}
	}
	return nil, "", errors.Join(errors.New("the devserver printed no URL"), lines.Err(), srv.stop(os.Kill))
}
