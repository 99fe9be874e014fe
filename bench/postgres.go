package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sequin-go/sequin/internal/pgcluster"
)

// The store on Postgres is measured beside the SQL of the server of 2024, on one Postgres that the bench starts. Both are called
// in the process that measures, without HTTP. The program server/postgres/internal/storebench makes one measurement.

// The contenders of storebench.
const (
	storeName = "store"
	sqlName   = "sql2024"
)

// replicaCounts are how many replicas of the store are measured.
var replicaCounts = []int{1, 4}

// postgresCell compares the SQL of 2024 with the store.
type postgresCell struct {
	Work      string // a work of storebench
	Size      int    // bytes of a message's data
	Consumers int
	Goal      float64 // the least ratio that the project wants, for each number of replicas
	Keys      int     // that the stream has before
	SQL       []stored
	Store     map[int][]stored // by the number of replicas
}

// stored is the result of one run of storebench.
type stored struct {
	PerSecond float64
	P50, P99  time.Duration
}

// postgresCells are all comparisons.
func postgresCells(opts options) []postgresCell {
	var cells []postgresCell
	for _, size := range []int{100, 1 << 10} {
		for _, consumers := range []int{1, 3} {
			publish, receive := 10.0, 10.0
			if size == 1<<10 {
				publish, receive = 5, 6
			}
			cells = append(cells,
				postgresCell{Work: "append", Size: size, Consumers: consumers, Goal: publish},
				postgresCell{Work: "receive", Size: size, Consumers: consumers, Goal: receive},
				postgresCell{Work: "end-to-end", Size: size, Consumers: consumers, Goal: 30})
		}
	}
	return append(cells,
		postgresCell{Work: "upsert", Size: 100, Consumers: 1, Goal: 4, Keys: opts.keys},
		postgresCell{Work: "send-one", Size: 100, Consumers: 1, Goal: 5},
		postgresCell{Work: "receive-one", Size: 100, Consumers: 1, Goal: 5})
}

// postgresWorks are the works in words.
var postgresWorks = map[string]string{
	"append": "publish", "upsert": "publish, one per key, 30 % known", "receive": "receive and ack", "end-to-end": "end to end, acked",
	"send-one": "64 callers, a publish each", "receive-one": "64 callers, a receive and ack each",
}

// name describes a cell.
func (c *postgresCell) name() string {
	text := postgresWorks[c.Work] + ", " + sizeName(c.Size)
	if c.Consumers > 1 {
		text += fmt.Sprintf(", %d consumers", c.Consumers)
	}
	return text
}

// postgresCounts are the messages of a measurement, the same of the SQL and of the store. The rate of the SQL falls with the number of
// messages that wait. The store needs a second for 200,000, and the SQL twenty.
var postgresCounts = map[string]int{
	"append": 200_000, "receive": 200_000, "end-to-end": 200_000, "upsert": 100_000, "send-one": 10_000, "receive-one": 10_000,
}

// quickPart is what part of the messages a quick run has.
const quickPart = 10

func measurePostgres(ctx context.Context, opts options, all *results) (err error) {
	c, err := startPostgres()
	if errors.Is(err, pgcluster.ErrNotInstalled) {
		progress("postgres is left out: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	program := filepath.Join(c.Dir(), "storebench")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./internal/storebench")
	build.Dir = filepath.Join("..", "server", "postgres")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("storebench cannot be built: %w: %s", err, out)
	}
	all.Postgres = postgresCells(opts)
	for round := range min(opts.rounds, maxPostgresRounds) {
		for i := range all.Postgres {
			cell := &all.Postgres[i]
			progress("postgres, round %d of %d, %s", round+1, min(opts.rounds, maxPostgresRounds), cell.name())
			if err := cell.measure(ctx, opts, program, c.URL()); err != nil {
				return err
			}
		}
	}
	var rows [][]string
	for i := range all.Postgres {
		rows = append(rows, all.Postgres[i].row())
	}
	table("The store on Postgres, beside the SQL of the server of 2024 on the same database", postgresHeader, rows)
	return nil
}

// maxPostgresRounds keeps the run short: a round takes eight minutes.
const maxPostgresRounds = 3

// startPostgres starts a Postgres with its default settings.
func startPostgres() (*pgcluster.Cluster, error) {
	c, err := pgcluster.New()
	if err != nil {
		return nil, err
	}
	if inMemory(c.Dir()) {
		return nil, errors.Join(fmt.Errorf("%s is in memory: let TMPDIR name a directory on a disk", c.Dir()), c.Close())
	}
	if err := c.Run(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// measure measures the cell once, with each contender.
func (c *postgresCell) measure(ctx context.Context, opts options, program, url string) error {
	if c.Store == nil {
		c.Store = map[int][]stored{}
	}
	r, err := c.once(ctx, opts, program, url, sqlName, 1)
	if err != nil {
		return err
	}
	c.SQL = append(c.SQL, r)
	for _, replicas := range replicaCounts {
		if replicas > 1 && c.Work == "upsert" {
			continue // it has one publisher
		}
		if r, err = c.once(ctx, opts, program, url, storeName, replicas); err != nil {
			return err
		}
		c.Store[replicas] = append(c.Store[replicas], r)
	}
	return nil
}

func (c *postgresCell) once(ctx context.Context, opts options, program, url, contender string, replicas int) (r stored, err error) {
	n := postgresCounts[c.Work]
	if opts.quick {
		n /= quickPart
	}
	cmd := exec.CommandContext(ctx, program, "-url", url, "-contender", contender, "-work", c.Work, "-size", strconv.Itoa(c.Size),
		"-messages", strconv.Itoa(n), "-consumers", strconv.Itoa(c.Consumers), "-replicas", strconv.Itoa(replicas), "-keys", strconv.Itoa(c.Keys))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err = cmd.Run(); err == nil {
		err = json.Unmarshal(out.Bytes(), &r)
	}
	if err != nil {
		return r, fmt.Errorf("%s, %s, %d replicas: %w", c.name(), contender, replicas, err)
	}
	return r, nil
}
