package mapping

// Prefixes gives the text with which the keys of each template begin, in the templates' order. It is empty where a template begins with a column.
func (m *Mapping) Prefixes() []string {
	out := make([]string, len(m.templates))
	for i := range m.templates {
		out[i] = m.templates[i].literals[0]
	}
	return out
}
