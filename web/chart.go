package web

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
)

// A chart is readings of one thing in one unit, drawn as SVG in units of which it is chartWidth wide and chartHeight high. All that it shows
// stands in its table too. Nothing in it depends on colour: lines differ in their dots and dashes, and a dot says in words what it is.
type chart struct {
	ID, Title, Unit string
	Desc            string // the drawing in words
	Lines           []chartLine
	Several         bool // more than one line: the key tells which is which
	Band            *box // the reference range, if all readings have the same
	YTicks, XTicks  []tick
	Dots            []dot
	Inexact         bool // some dots are at "less than" or "more than" a number
	Rows            []reading
	Notes           []string
}

// A chartLine joins readings that follow each other with exact numbers. A reading of "less than" breaks it: where the value was is not known.
type chartLine struct {
	Name  string
	Kind  int      // how it is dotted and dashed
	Paths []string // points of polylines
}

type box struct {
	X, Y, W, H string
	Words      string
}

type tick struct {
	At, Text, Anchor string
}

// A dot is one number: its shape as an SVG path, and what it says.
type dot struct {
	Path  string
	Class string
	Words string
}

const (
	chartWidth, chartHeight = 360.0, 200.0
	plotLeft, plotRight     = 54.0, 352.0
	plotTop, plotBottom     = 10.0, 172.0
)

// draw makes the chart of a measure, whose readings stand newest first.
func draw(m *measure, say func(string) string) chart {
	c := chart{Title: cmp.Or(m.title, "Measurement"), Unit: m.unit, Rows: m.readings}
	var dated []reading
	for _, r := range slices.Backward(m.readings) {
		if !r.At.IsZero() {
			dated = append(dated, r)
		}
	}
	if n := len(m.readings) - len(dated); n > 0 {
		c.Notes = append(c.Notes, sayCount(n, "reading has", "readings have")+" no day, and stands only in the table.")
	}
	low, high, band := rangeOf(dated)
	if !band && slices.ContainsFunc(dated, func(r reading) bool { return r.Range != "" }) {
		c.Notes = append(c.Notes, "The reference range is not the same for all of them, or is given in words: see the table.")
	}
	s := newScale(dated, low, high)
	for _, y := range s.ticks {
		c.YTicks = append(c.YTicks, tick{At: px(s.y(y)), Text: sayTick(y)})
	}
	first, last := dated[0].At, dated[len(dated)-1].At
	c.XTicks = []tick{{px(s.x(first)), say(first.In(fhir.London).Format(time.DateOnly)), "start"}, {px(s.x(last)), say(last.In(fhir.London).Format(time.DateOnly)), "end"}}
	if band {
		c.Band = s.band(low, high, dated[0].Range)
	}
	c.lines(dated, s)
	c.Desc = fmt.Sprintf("%s, from %s to %s: first %s, last %s. Each is in the table.", sayCount(len(dated), "reading", "readings"), dated[0].When, dated[len(dated)-1].When,
		dated[0].Value, dated[len(dated)-1].Value)
	return c
}

// rangeOf is the reference range, if all readings give the same.
func rangeOf(rs []reading) (low, high *float64, ok bool) {
	same := func(a, b *float64) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }
	for i, r := range rs {
		if i > 0 && (!same(r.low, low) || !same(r.high, high)) {
			return nil, nil, false
		}
		low, high = r.low, r.high
	}
	return low, high, low != nil || high != nil
}

func (c *chart) lines(rs []reading, s scale) {
	var names []string
	for _, r := range rs {
		for _, n := range r.numbers {
			if !slices.Contains(names, n.of) {
				names = append(names, n.of)
			}
		}
	}
	c.Several = len(names) > 1
	for kind, name := range names {
		line := chartLine{Name: name, Kind: kind % mostLines}
		var points []string
		flush := func() {
			if len(points) > 1 {
				line.Paths = append(line.Paths, strings.Join(points, " "))
			}
			points = nil
		}
		for _, r := range rs {
			for _, n := range r.numbers {
				if n.of != name {
					continue
				}
				x, y := s.x(r.At), s.y(n.value)
				d := dot{Path: shape(kind%mostLines, n.comparator, x, y), Class: "t-dot t-dot--" + strconv.Itoa(kind%mostLines), Words: r.When + ": " + join(", ", r.Value, r.Mark.Word, r.From)}
				if n.comparator != "" {
					c.Inexact, d.Class = true, d.Class+" t-dot--open"
					flush()
				} else {
					points = append(points, px(x)+","+px(y))
				}
				c.Dots = append(c.Dots, d)
			}
		}
		flush()
		c.Lines = append(c.Lines, line)
	}
}

// shape is a dot: round, square or a diamond by its line; a triangle that points where the value is, if it is only known to be less or more.
func shape(kind int, comparator string, x, y float64) string {
	at := func(format string, v ...float64) string {
		s := make([]any, len(v))
		for i := range v {
			s[i] = px(v[i])
		}
		return fmt.Sprintf(format, s...)
	}
	switch {
	case strings.HasPrefix(comparator, "<"):
		return at("M%s,%s h10 l-5,9 z", x-5, y-3)
	case strings.HasPrefix(comparator, ">"):
		return at("M%s,%s h10 l-5,-9 z", x-5, y+3)
	case kind == 1:
		return at("M%s,%s h7 v7 h-7 z", x-3.5, y-3.5)
	case kind == 2:
		return at("M%s,%s l5,5 l-5,5 l-5,-5 z", x, y-5)
	}
	return at("M%s,%s a4,4 0 1,0 8,0 a4,4 0 1,0 -8,0 z", x-4, y)
}

// A scale puts times and values on the drawing.
type scale struct {
	from, to    time.Time
	bottom, top float64
	ticks       []float64
}

func newScale(rs []reading, low, high *float64) scale {
	s := scale{from: rs[0].At, to: rs[len(rs)-1].At, bottom: math.Inf(1), top: math.Inf(-1)}
	take := func(v float64) { s.bottom, s.top = math.Min(s.bottom, v), math.Max(s.top, v) }
	for _, r := range rs {
		for _, n := range r.numbers {
			take(n.value)
		}
	}
	for _, v := range []*float64{low, high} {
		if v != nil {
			take(*v)
		}
	}
	span := s.top - s.bottom
	if span == 0 {
		span = math.Max(math.Abs(s.top), 1) / 5
		s.bottom, s.top = s.bottom-span/2, s.top+span/2
	}
	step := math.Pow(10, math.Floor(math.Log10(span/3)))
	for _, k := range []float64{1, 2, 5, 10} {
		if span/(step*k) <= 4 {
			step *= k
			break
		}
	}
	lo, hi := math.Floor(s.bottom/step), math.Ceil(s.top/step)
	for i := lo; i <= hi && len(s.ticks) < 10; i++ {
		v := i * step
		if decimals := math.Max(0, -math.Floor(math.Log10(step))); decimals < 12 {
			p := math.Pow(10, decimals)
			v = math.Round(v*p) / p
		}
		s.ticks = append(s.ticks, v)
	}
	s.bottom, s.top = lo*step, hi*step
	return s
}

func (s scale) x(t time.Time) float64 {
	whole := s.to.Sub(s.from)
	if whole <= 0 {
		return (plotLeft + plotRight) / 2
	}
	return plotLeft + 8 + (plotRight-plotLeft-16)*float64(t.Sub(s.from))/float64(whole)
}

func (s scale) y(v float64) float64 {
	return plotBottom - (plotBottom-plotTop)*(v-s.bottom)/(s.top-s.bottom)
}

func (s scale) band(low, high *float64, words string) *box {
	top, bottom := plotTop, plotBottom
	if high != nil {
		top = s.y(*high)
	}
	if low != nil {
		bottom = s.y(*low)
	}
	if bottom <= top {
		return nil
	}
	return &box{px(plotLeft), px(top), px(plotRight - plotLeft), px(bottom - top), words}
}

// sayTick is a number that fits beside the axis.
func sayTick(v float64) string {
	if s := strconv.FormatFloat(v, 'f', -1, 64); len(s) <= 7 {
		return s
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }
