package main

import (
	"fmt"
	"image/color"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

// plot draws the rates as bars and each axis as lines, in SVG files.
func (r *results) plot(dir string) error {
	for _, part := range []struct{ name, file string }{{aloneName, "client"}, {wholeName, "server"}} {
		if len(r.Rates) == 0 {
			break
		}
		if err := r.bars(part.name, filepath.Join(dir, part.file+".svg")); err != nil {
			return err
		}
	}
	for _, a := range slices.Concat(r.Axes, r.Growth) {
		if err := r.lines(a, filepath.Join(dir, a.Name+".svg")); err != nil {
			return err
		}
	}
	return nil
}

// colours of the contenders, which colour-blind people can distinguish.
var colours = map[string]color.Color{
	limitName: color.RGBA{0x99, 0x99, 0x99, 0xff}, libraryName: color.RGBA{0x00, 0x72, 0xb2, 0xff},
	singleName: color.RGBA{0xe6, 0x9f, 0x00, 0xff}, peerName: color.RGBA{0x00, 0x9e, 0x73, 0xff},
	"JetStream, file": color.RGBA{0x56, 0xb4, 0xe9, 0xff},
}

func (r *results) canvas(title string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title + "\n" + r.Machine
	p.Title.TextStyle.Font.Size = vg.Points(9)
	p.Y.Label.Text = "messages a second"
	p.Y.Min = 0
	p.Y.Tick.Marker = plot.TickerFunc(func(from, to float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(from, to)
		for i := range ticks {
			if ticks[i].Label != "" {
				ticks[i].Label = thousands(ticks[i].Value)
			}
		}
		return ticks
	})
	p.Add(plotter.NewGrid())
	p.Legend.Top = true
	p.Legend.TextStyle.Font.Size = vg.Points(9)
	p.Legend.Left = true
	p.Legend.XOffs = vg.Points(6)
	return p
}

// headroom makes room for the legend at the top.
func headroom(p *plot.Plot) { p.Y.Min, p.Y.Max = 0, p.Y.Max*1.35 }

// ratio returns the rate of the library relative to the contender that it is compared with, as text; "" if there is none.
func (r *results) ratio(part, work string) string {
	for _, x := range r.Rates {
		if x.Part == part && x.Work == work && x.Contender == libraryName && x.Size == 100 {
			if x.OfLimit > 0 {
				return fmt.Sprintf("%.2f of net/http", x.OfLimit)
			}
			return fmt.Sprintf("%.1f × JetStream", x.OfPeer)
		}
	}
	return ""
}

// limits returns the rates of plain net/http in the same run, as text.
func (r *results) limits() string {
	var parts []string
	for _, x := range r.Rates {
		if x.Part == aloneName && x.Contender == limitName && x.Size == 100 {
			parts = append(parts, x.Work+" "+thousands(x.PerSecond))
		}
	}
	if parts == nil {
		return ""
	}
	return "; " + limitName + ": " + strings.Join(parts, ", ")
}

// bars compares the contenders at 100 bytes.
func (r *results) bars(part, file string) error {
	p := r.canvas(part + ", messages of 100 bytes")
	works := []string{"publish", "consume"}
	if part == wholeName {
		works = append(works, "end to end")
	}
	var names []string
	rates := map[string][]float64{}
	for _, x := range r.Rates {
		if x.Part != part || x.Size != 100 {
			continue
		}
		if rates[x.Contender] == nil {
			names = append(names, x.Contender)
			rates[x.Contender] = make([]float64, len(works))
		}
		for i, w := range works {
			if w == x.Work {
				rates[x.Contender][i] = x.PerSecond
			}
		}
	}
	width := vg.Points(24)
	for i, name := range names {
		b, err := plotter.NewBarChart(plotter.Values(rates[name]), width)
		if err != nil {
			return err
		}
		b.Color, b.LineStyle.Width = colours[name], 0
		b.Offset = width * vg.Length(float64(i)-float64(len(names)-1)/2)
		p.Add(b)
		p.Legend.Add(name, b)
	}
	labels := make([]string, len(works))
	for i, w := range works {
		labels[i] = w + "\n" + r.ratio(part, w)
	}
	p.NominalX(labels...)
	p.X.Min, p.X.Max = -0.6, float64(len(works))-0.4
	headroom(p)
	return p.Save(8*vg.Inch, 4*vg.Inch, file)
}

func (r *results) lines(a axis, file string) error {
	p := r.canvas("over " + a.Unit)
	p.Title.Text += r.limits()
	p.X.Label.Text = a.Unit
	var all []any
	for _, s := range a.Series {
		xys := make(plotter.XYs, len(s.X))
		for i := range s.X {
			xys[i] = plotter.XY{X: s.X[i], Y: s.Y[i]}
		}
		all = append(all, s.Name, xys)
	}
	if err := plotutil.AddLinePoints(p, all...); err != nil {
		return err
	}
	headroom(p) // starts at zero again: AddLinePoints has fitted the range to the data, which exaggerates small differences
	if x := a.Series[0].X; x[len(x)-1] >= 1000 {
		p.X.Scale = plot.LogScale{}
		var ticks []plot.Tick
		for _, x := range x {
			ticks = append(ticks, plot.Tick{Value: x, Label: thousands(x)})
		}
		p.X.Tick.Marker = plot.ConstantTicks(ticks)
		p.X.Max *= 1.2 // room for the last label
	}
	return p.Save(8*vg.Inch, 4*vg.Inch, file)
}
