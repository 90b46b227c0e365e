package fhirpath

import "github.com/cockroachdb/apd/v3"

// momentParts are the functions that take dates and times apart. FHIRPath 2.1 (those of STU)
var momentParts = func() map[string]*function {
	m := map[string]*function{
		"dateOf": {do: partOf(func(v Moment) any {
			if v.kind == kindTime {
				return nil
			}
			d, ok := v.boundary(false, []int{4, 6, 8}[min(v.precision, toDay)])
			if !ok {
				return nil
			}
			d.kind = kindDate
			return d
		})},
		"timeOf": {do: partOf(func(v Moment) any {
			if v.kind == kindDate || v.precision < toHour {
				return nil
			}
			v.kind, v.zone, v.offset = kindTime, false, 0
			v.part[0], v.part[1], v.part[2] = 0, 0, 0
			return v
		})},
		"timezoneOffsetOf": {do: partOf(func(v Moment) any {
			if !v.zone {
				return nil
			}
			d := new(apd.Decimal)
			if _, err := rounded.Quo(d, apd.New(int64(v.offset), 0), apd.New(60, 0)); err != nil {
				return nil
			}
			return tidied(d, 4)
		})},
	}
	for name, p := range map[string]precision{"yearOf": toYear, "monthOf": toMonth, "dayOf": toDay, "hourOf": toHour, "minuteOf": toMinute, "secondOf": toSecond, "millisecondOf": toMillisecond} {
		m[name] = &function{do: partOf(func(v Moment) any {
			if v.precision < p || v.kind == kindTime && p < toHour {
				return nil
			}
			return int64(v.part[p])
		})}
	}
	return m
}()

func partOf(f func(Moment) any) func(*run, *call, int) error {
	return func(r *run, n *call, lo int) error {
		it, err := r.oneOf(lo, n.name)
		if err != nil || it == nil {
			return err
		}
		m, ok := it.system().(Moment)
		if !ok {
			return fault("%s() is asked of a date or time", n.name)
		}
		v := f(m)
		if v == nil {
			return r.nothing(lo)
		}
		return r.answer(lo, computed(v))
	}
}
