package console

import (
	"fmt"
	"html/template"
	"strings"

	"github.com/sequin-go/sequin/cmd/sequin/internal/overview"
)

// The size of a sparkline in the units of its own picture, which is stretched to its place.
const (
	sparkWidth  = 120
	sparkHeight = 28
)

// spark draws a rate as a line above an area. The picture has no text: what it shows stands beside it.
func spark(r overview.Rate) template.HTML {
	if len(r.History) < 2 {
		return `<svg class="spark" viewBox="0 0 120 28" aria-hidden="true"></svg>` // keeps its place
	}
	top := 0.0
	for _, v := range r.History {
		top = max(top, v)
	}
	step := float64(sparkWidth) / float64(overview.DefaultHistory-1)
	begin := sparkWidth - step*float64(len(r.History)-1) // the newest is at the right edge
	var line strings.Builder
	for i, v := range r.History {
		y := float64(sparkHeight - 1)
		if top > 0 {
			y -= (sparkHeight - 3) * max(v, 0) / top
		}
		fmt.Fprintf(&line, "%c%.1f %.1f", "ML"[min(i, 1)], begin+step*float64(i), y)
	}
	return template.HTML(fmt.Sprintf(`<svg class="spark" viewBox="0 0 %d %d" preserveAspectRatio="none" aria-hidden="true">`+
		`<path class="area" d="%sL%d %dL%.1f %dZ"/><path class="line" d="%s"/></svg>`,
		sparkWidth, sparkHeight, line.String(), sparkWidth, sparkHeight, begin, sparkHeight, line.String())) // numbers only
}

// sum adds rates. The newest values are at the ends of the histories.
func sum(rates []overview.Rate) (total overview.Rate) {
	longest := 0
	for _, r := range rates {
		total.Known = total.Known || r.Known
		total.Now += r.Now
		longest = max(longest, len(r.History))
	}
	total.History = make([]float64, longest)
	for _, r := range rates {
		for i, v := range r.History {
			total.History[longest-len(r.History)+i] += v
		}
	}
	return total
}
