package hl7v2

import (
	"encoding/json"
	"strconv"
	"strings"

	"tombolo/fhir"
)

// Waveforms: OBX of four kinds, told apart by the suffix of OBX-3 and joined by OBX-4: when it began (TIM), what each channel is (CHN, a CD), the
// samples (WAV: an NA, a repetition a channel, or an MA, a repetition a moment) and remarks (ANO). HL7 v2.4 §7.14 to §7.18, §2.9.5, §2.9.25, §2.9.27

// A channel is one line of a waveform: what CD says of it, and its samples.
type channel struct {
	cd   Value
	data []string
}

// A wave is a stretch of samples that follow each other without a break.
type wave struct {
	channels []channel
	begins   string // FHIR dateTime
}

// waveforms makes one line of all that belongs to each stretch of samples, in the place of its first, and leaves the other lines as they are. What has no
// sampling frequency stays as it is, words: nobody knows when its samples were taken.
func (x *mapper) waveforms(lines []obx) []obx {
	type group struct {
		timing   string
		notes    []string // on its timing or its channels, for the next stretch
		channels []Value
		at       int // of the stretch in hand, in out; -1 if none
	}
	groups := map[string]*group{}
	var out []obx
	for i, o := range lines {
		kind := waveKind(o)
		if kind == "" {
			out = append(out, o)
			continue
		}
		sub := str(o.Field(4), 0)
		g := groups[sub]
		if g == nil {
			g = &group{at: -1}
			groups[sub] = g
			for _, later := range lines[i:] { // channels may be defined after the first samples
				if waveKind(later) == "CHN" && str(later.Field(4), 0) == sub {
					for rep := range later.Field(5).Reps() {
						g.channels = append(g.channels, rep)
					}
				}
			}
		}
		switch kind {
		case "TIM":
			g.timing, g.at, g.notes = x.dateTime(o.Field(5), o.Place(5)), -1, append(g.notes, o.notes...)
		case "CHN":
			g.notes = append(g.notes, o.notes...)
		case "ANO":
			remark := x.concept(o.Field(5)).Words()
			if g.at < 0 || remark == "" {
				out = append(out, o)
				continue
			}
			out[g.at].notes = append(append(out[g.at].notes, remark), o.notes...)
		case "WAV":
			if !sampled(g.channels) {
				x.note(fhir.Incomplete, o.Place(5), "samples of a waveform came without the frequency at which they were taken; they were kept as words")
				out = append(out, o)
				continue
			}
			if g.at < 0 {
				o.wave = &wave{begins: g.timing}
				for _, cd := range g.channels {
					o.wave.channels = append(o.wave.channels, channel{cd: cd})
				}
				g.at, g.notes, o.notes = len(out), nil, append(g.notes, o.notes...)
				out = append(out, o)
			} else {
				out[g.at].notes = append(out[g.at].notes, o.notes...)
			}
			x.samples(out[g.at].wave, o)
		}
	}
	return out
}

// waveKind is the suffix of OBX-3, or what only one suffix can be of.
func waveKind(o obx) string {
	suffix := strings.ToUpper(text(o.Field(3).Comp(1).Sub(2).Text()))
	switch kind := str(o.Field(2), 0); {
	case suffix == "TIM" || suffix == "ANO":
		return suffix
	case kind == "CD":
		return "CHN"
	case kind == "NA" || kind == "MA":
		return "WAV"
	}
	return ""
}

func sampled(channels []Value) bool {
	if len(channels) == 0 {
		return false
	}
	f, err := strconv.ParseFloat(str(channels[0], 5), 64) // what one channel leaves out is as of the first
	return err == nil && f > 0
}

// samples adds those of one OBX: NA has a channel a repetition, MA a moment.
func (x *mapper) samples(w *wave, o obx) {
	multiplexed := str(o.Field(2), 0) == "MA"
	beyond := false
	r := 0
	for rep := range o.Field(5).Reps() {
		c := 0
		for v := range rep.Comps() {
			n := r
			if multiplexed {
				n = c
			}
			c++
			if n >= len(w.channels) {
				beyond = true
				continue
			}
			sample := "E" // one that is missing. FHIR R4 datatypes.html#SampledData
			if s, ok := number(text(v.Text())); ok {
				sample = string(s)
			}
			w.channels[n].data = append(w.channels[n].data, sample)
		}
		r++
	}
	if beyond {
		x.note(fhir.Structure, o.Place(5), "samples came of more channels than are defined; those of the others were kept in the raw message only")
	}
}

// fill puts the samples into an Observation: its value, or where there are several channels a component each.
func (w *wave) fill(x *mapper, f fhir.M) {
	if w.begins != "" {
		f["effectiveDateTime"] = w.begins
	}
	if len(w.channels) == 1 {
		f["valueSampledData"] = x.sampledData(w.channels[0], w.channels[0])
		return
	}
	code, _ := f["code"].(fhir.CodeableConcept)
	var components []fhir.M
	for i, c := range w.channels {
		if len(c.data) == 0 {
			continue
		}
		name := text(c.cd.Comp(1).Sub(2).Text())
		if name == "" {
			name = str(c.cd, 2)
		}
		if name == "" {
			name = strings.TrimSpace(code.Words() + " " + strconv.Itoa(i+1))
		}
		components = append(components, fhir.M{"code": fhir.CodeableConcept{Text: name}, "valueSampledData": x.sampledData(c, w.channels[0])})
	}
	f["component"] = components
}

// sampledData is one channel; what its definition leaves out is as of the first (HL7 v2.4 §7.18.2). A sample is in units of factor from origin.
func (x *mapper) sampledData(c, first channel) fhir.M {
	part := func(n int) Value {
		if v := c.cd.Comp(n); !v.Empty() {
			return v
		}
		return first.cd.Comp(n)
	}
	decimal := func(v Value, none float64) float64 {
		f, err := strconv.ParseFloat(strings.TrimSpace(text(v.Text())), 64)
		if err != nil {
			return none
		}
		return f
	}
	written := func(f float64) json.Number { return json.Number(strconv.FormatFloat(f, 'f', -1, 64)) }
	sensitivity, calibration, limits := part(3), part(4), part(6)
	factor := decimal(sensitivity.Sub(1), 1) * decimal(calibration.Sub(1), 1)
	origin := fhir.Quantity{Value: "0", Unit: text(sensitivity.Sub(2).Text())}
	if base := decimal(calibration.Sub(2), 0); base != 0 {
		origin.Value = written(-base * factor)
	}
	if code := origin.Unit; x.systemOf(text(sensitivity.Sub(4).Text())) == fhir.SystemUCUM && code != "" {
		origin.System, origin.Code = fhir.SystemUCUM, code
	}
	if said := text(sensitivity.Sub(3).Text()); said != "" {
		origin.Unit = said
	}
	out := fhir.M{"origin": origin, "period": written(1000 / decimal(part(5), 1)), "dimensions": 1, "data": strings.Join(c.data, " ")}
	if factor != 1 {
		out["factor"] = written(factor)
	}
	if n, ok := number(text(limits.Sub(1).Text())); ok {
		out["lowerLimit"] = n
	}
	if n, ok := number(text(limits.Sub(2).Text())); ok {
		out["upperLimit"] = n
	}
	if decimal(calibration.Sub(3), 0) != 0 {
		x.note(fhir.Informational, "OBX-5", "a channel of the waveform is said to be skewed in time; that stands in the raw message only")
	}
	return out
}
