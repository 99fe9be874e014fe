package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// results are the results of a run, as they are written to a file.
type results struct {
	Machine  string
	Rounds   int
	Rates    []rate
	Sinks    []rate
	Latency  []latency
	Axes     []axis
	Growth   []axis
	Knobs    []knob
	Link     []rate
	JSON     []codecCost
	Disk     []diskCell
	Openings []opening
	Postgres []postgresCell
}

// rate is a cell of a table, in messages per second.
type rate struct {
	Part      string // client alone, sinks, or end to end with a server
	Work      string // publish, consume, end to end
	Contender string
	Size      int // bytes of a message's data
	PerSecond float64
	Rounds    []float64
	// OfLimit is the ratio to plain net/http, and OfPeer that to JetStream in memory, in the same run. 0 means none.
	OfLimit, OfPeer float64
}

// latency is the time from the call of Send to the arrival of the message in the program, on an idle stream.
type latency struct {
	Contender string
	P50, P99  time.Duration
	OfLimit   float64 // P50 divided by that of a plain request
}

// axis holds the rates as a function of one size.
type axis struct {
	Name, Unit string
	Series     []series
}

type series struct {
	Name string
	X    []float64
	Y    []float64 // messages per second
	// Rounds are the rates of each round, where they were kept.
	Rounds [][]float64 `json:",omitempty"`
}

// knob is a setting and its effect.
type knob struct {
	Name, Value string
	PerSecond   float64
	P50         time.Duration
	PeakHeap    uint64
}

// codecCost is the cost per message of the JSON of a batch.
type codecCost struct {
	Codec                      string
	Encode, Decode             time.Duration
	EncodeAllocs, DecodeAllocs float64
}

// startResults returns empty results, or, with keep, the results in the file, which must be of the same machine.
func startResults(file string, rounds int, keep bool) (*results, error) {
	fresh := &results{Machine: thisMachine(), Rounds: rounds}
	if !keep {
		return fresh, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return fresh, nil
	}
	before := new(results)
	if err == nil {
		err = json.Unmarshal(text, before)
	}
	if err == nil && before.Machine != fresh.Machine {
		err = fmt.Errorf("%s was measured on %s, this is %s: run all parts", file, before.Machine, fresh.Machine)
	}
	return before, err
}

func (r *results) write(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// median returns the median of xs.
func median[T float64 | time.Duration](xs []T) T {
	sorted := slices.Sorted(slices.Values(xs))
	return sorted[len(sorted)/2]
}

func thisMachine() string {
	model := runtime.GOARCH
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s, %s/%s", model, runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// table prints rows below a heading.
func table(title string, header []string, rows [][]string) {
	fmt.Printf("\n%s\n", title)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, strings.Join(header, "\t")+"\t")
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t")+"\t")
	}
	t.Flush()
}

// progress prints on standard error what is being measured, since a run takes minutes.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "  … "+format+"\n", args...)
}

func thousands(x float64) string {
	s := fmt.Sprintf("%.0f", x)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func sizeName(bytes int) string {
	if bytes >= 1<<10 {
		return fmt.Sprintf("%d KiB", bytes>>10)
	}
	return fmt.Sprintf("%d B", bytes)
}
