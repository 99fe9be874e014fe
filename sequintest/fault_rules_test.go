package sequintest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEachFaultRuleRefusesAFault holds, for each rule, faults that this rule is the first to refuse.
func TestEachFaultRuleRefusesAFault(t *testing.T) {
	invalid := map[string][]Fault{
		"Op is not an operation of this package":               {{Op: opCount}, {Op: 99}},
		"Skip is negative":                                     {{Skip: -1}},
		"Count is negative; 0 means all requests until Remove": {{Count: -1}},
		"Delay is negative":                                    {{Delay: -1}},
		"DelayAfter is negative":                               {{DelayAfter: -1}},
		"Truncate is negative":                                 {{Truncate: -1}},
		"BytesPerSecond is negative":                           {{BytesPerSecond: -1}},
		"MaxAnswer is negative":                                {{MaxAnswer: -1}},
		"MaxWait is negative":                                  {{MaxWait: -1}},
		"Status is not in 200..599":                            {{Status: 100}, {Status: 600}, {Status: -1}},
		"at most one of Status, CutBefore, CutAfter and Garble may be set": {
			{CutBefore: true, CutAfter: true}, {CutBefore: true, Status: 500}, {CutBefore: true, Garble: true},
			{CutAfter: true, Status: 500}, {CutAfter: true, Garble: true}, {Garble: true, Status: 500},
		},
		"Header, Body and Acted need a Status": {
			{Header: map[string][]string{}}, {Body: "x"}, {Acted: true}, {CutAfter: true, Acted: true},
		},
		"Truncate needs an answer, and CutBefore and CutAfter send none": {
			{CutBefore: true, Truncate: 1}, {CutAfter: true, Truncate: 1},
		},
		"DelayAfter needs the server to act, which CutBefore and a Status without Acted prevent: use Delay": {
			{CutBefore: true, DelayAfter: 1}, {Status: 500, DelayAfter: 1},
		},
		"BytesPerSecond needs an answer, and CutBefore and CutAfter send none": {
			{CutBefore: true, BytesPerSecond: 1}, {CutAfter: true, BytesPerSecond: 1},
		},
		"MaxAnswer needs a field that changes the server's own answer": {
			{MaxAnswer: 1}, {MaxAnswer: 1, Delay: 1}, {MaxAnswer: 1, Status: 502}, {MaxAnswer: 1, CutBefore: true},
		},
		"MaxWait needs CutAfter, Garble or a Status with Acted": {
			{MaxWait: 1}, {MaxWait: 1, Delay: 1}, {MaxWait: 1, Status: 502}, {MaxWait: 1, CutBefore: true},
			{MaxWait: 1, Truncate: 1}, {MaxWait: 1, DelayAfter: 1}, {MaxWait: 1, BytesPerSecond: 1},
		},
	}
	require.Len(t, invalid, len(faultRules))
	for _, rule := range faultRules {
		require.NotEmpty(t, invalid[rule.reason], rule.reason)
		for _, f := range invalid[rule.reason] {
			_, err := f.effect()
			require.EqualError(t, err, rule.reason, "%+v", f)
		}
	}
}

// TestEachFaultHasOneKind holds the kind of every combination of fields that decide it.
func TestEachFaultHasOneKind(t *testing.T) {
	for _, tt := range []struct {
		fault Fault
		want  effectKind
	}{
		{Fault{}, observe},
		{Fault{Op: Send, Skip: 1, Count: 2}, observe},
		{Fault{Delay: 1}, delayRequest},
		{Fault{Status: 503}, answerInstead},
		{Fault{Status: 503, Delay: 1, Truncate: 1}, answerInstead},
		{Fault{CutBefore: true, Delay: 1}, cutBefore},
		{Fault{DelayAfter: 1}, holdAnswer},
		{Fault{Truncate: 1}, holdAnswer},
		{Fault{BytesPerSecond: 1, MaxAnswer: 1}, holdAnswer},
		{Fault{Status: 504, Acted: true}, replaceAnswer},
		{Fault{Status: 504, Acted: true, DelayAfter: 1, Truncate: 1}, replaceAnswer},
		{Fault{Garble: true, DelayAfter: 1, Truncate: 1}, replaceAnswer},
		{Fault{CutAfter: true, Delay: 1, DelayAfter: 1}, cutAfter},
	} {
		e, err := tt.fault.effect()
		require.NoError(t, err, "%+v", tt.fault)
		require.Equal(t, tt.want, e.kind, "%+v", tt.fault)
		require.Equal(t, tt.want >= holdAnswer, e.kind.actsFirst())
	}
}
