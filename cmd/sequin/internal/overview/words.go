package overview

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sequin-go/sequin"
)

// Number writes a number in groups of three digits.
func Number[T int | int64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	var out strings.Builder
	for i, d := range digits {
		if left := len(digits) - i; i > 0 && left%3 == 0 && digits[i-1] != '-' {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

// Span writes a duration in its largest unit, or two for hours, as people say it.
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", max(0, d.Milliseconds()))
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// Ago writes how long ago something was.
func Ago(now, t time.Time) string {
	d := now.Sub(t)
	if d < time.Second { // clocks differ a little
		return "now"
	}
	return Span(d) + " ago"
}

// Deliveries says how often a message was delivered, and when last.
func Deliveries(i *sequin.DeliveryInfo, now time.Time) string {
	times := "delivered once"
	if i.DeliverCount != 1 {
		times = "delivered " + Number(i.DeliverCount) + " times"
	}
	return times + LastDelivery(i, now)
}

// LastDelivery says when a message was delivered last, behind a comma. It returns "" if that is not known.
func LastDelivery(i *sequin.DeliveryInfo, now time.Time) string {
	if i.LastDeliveredAt.IsZero() {
		return ""
	}
	return ", last " + Ago(now, i.LastDeliveredAt)
}

// NotSettled says why a message is not settled that no program has.
func NotSettled(i *sequin.DeliveryInfo, now time.Time) string {
	if i.DeliverCount <= 0 {
		return "not delivered yet"
	}
	return Deliveries(i, now) + ", and not settled"
}
