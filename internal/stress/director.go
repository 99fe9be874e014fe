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

// director starts everything, makes trouble, and adds up.
type director struct {
	length    time.Duration
	compat    string
	seed      uint64
	devserver string

	rand  *rand.Rand
	dir   string
	proxy *proxy
	lives int
	kills int
}

var consumers = []string{"billing", "audit"}

const (
	producersInAll     = 2
	workersPerConsumer = 2
	// leaseLength is short, so that what a killed worker held comes again while there is time to see it.
	leaseLength = 2 * time.Second
	// window is more than a run sends: for the first five minutes of a consumer the 2024 server counts what is acked too.
	window = 10_000_000
	// drainWithin is how long the survivors have for what is left.
	drainWithin = time.Minute
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
		if _, err := client.CreateConsumer(ctx, streamName, name, ">", sequin.ConsumerOptions{AckWait: leaseLength, MaxAckPending: window}); err != nil {
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
		defer func() { _ = p.stop(os.Kill) }() // whatever happened: it has ended already when all went well
	}
	if err := d.trouble(ctx, all); err != nil {
		return err
	}
	for _, p := range producers {
		if err := p.stop(syscall.SIGTERM); err != nil {
			return err
		}
	}
	if err := drained(ctx, client); err != nil {
		return err
	}
	for _, p := range workers {
		if err := p.stop(syscall.SIGTERM); err != nil {
			return err
		}
	}
	return d.add()
}

// trouble kills, stops and starts processes, and cuts connections, until the time is over.
func (d *director) trouble(ctx context.Context, all []*process) error {
	for end := time.Now().Add(d.length); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100*time.Millisecond + time.Duration(d.rand.Int64N(int64(time.Second)))):
		}
		switch p := all[d.rand.IntN(len(all))]; d.rand.IntN(4) {
		case 0, 1:
			d.proxy.cut()
		case 2:
			_ = p.stop(os.Kill) // it says how it ended: killed
			d.kills++
			if err := p.start(); err != nil {
				return err
			}
		case 3:
			// A polite stop while connections work must succeed; what it could not do it says by its exit code.
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

// drained waits until no consumer has anything left.
func drained(ctx context.Context, client *sequin.Client) error {
	ctx, cancel := context.WithTimeout(ctx, drainWithin)
	defer cancel()
	for _, name := range consumers {
		for {
			left, err := client.PeekMessages(ctx, streamName, name, sequin.ListOptions{Limit: 1})
			if err != nil {
				return fmt.Errorf("%s has messages left: %w", name, err)
			}
			if len(left) == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	return nil
}

func (d *director) add() error {
	b, err := readBooks(d.dir, consumers)
	if err != nil {
		return err
	}
	fmt.Printf("%s  processes started %d, killed %d; connections cut %d\n", b, d.lives, d.kills, d.proxy.cuts)
	if len(b.sent) == 0 {
		return errors.New("nothing was sent")
	}
	if err := b.add(); err != nil {
		return err
	}
	fmt.Println("  everything adds up")
	return nil
}

// process is a child, started again and again under the same role.
type process struct {
	d                    *director
	role, name, consumer string
	cmd                  *exec.Cmd
	stdin                io.Closer // held open while the director lives
}

func (d *director) newProcess(role, name, consumer string) *process {
	return &process{d: d, role: role, name: name, consumer: consumer}
}

// start begins another life, with an account of its own.
func (p *process) start() error {
	p.d.lives++
	life := fmt.Sprintf("%s%s%d", p.consumer, p.name, p.d.lives)
	account := p.role + "." + life
	if p.consumer != "" {
		account = p.role + "." + p.consumer + "." + life
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(self, "-as", p.role, "-url", p.d.proxy.url(), "-name", life, "-consumer", p.consumer,
		"-account", filepath.Join(p.d.dir, account))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	return p.cmd.Start()
}

// stop ends the child by a signal and returns how it ended; nil also when it has ended before.
func (p *process) stop(how os.Signal) error {
	if p.cmd == nil {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	_ = cmd.Process.Signal(how) // fails for one that has ended by itself, which Wait tells
	err := cmd.Wait()
	_ = p.stdin.Close() // Wait may have closed it
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && how == syscall.SIGTERM && status.Signaled() && status.Signal() == how {
		return nil // it had not come so far as to listen for signals
	}
	if err != nil {
		return fmt.Errorf("%s %s%s: %w", p.role, p.consumer, p.name, err)
	}
	return nil
}

// serve starts the devserver on a free port and reads its URL off its first lines.
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
	srv := &process{d: d, role: "devserver", cmd: cmd, stdin: io.NopCloser(nil)}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		for word := range strings.FieldsSeq(lines.Text()) {
			if strings.HasPrefix(word, "http://127.0.0.1:") {
				go func() { _, _ = io.Copy(io.Discard, out) }() // what else it prints nobody reads
				u, err := url.Parse(strings.TrimRight(word, ".,;/'\""))
				if err != nil {
					return nil, "", errors.Join(err, srv.stop(os.Kill))
				}
				return srv, "http://" + u.Host, nil
			}
		}
	}
	return nil, "", errors.Join(errors.New("the devserver told no URL"), lines.Err(), srv.stop(os.Kill))
}
