package settings

import (
	"bytes"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// steps are the names in the path of a field.
func steps(field string) (names []any) {
	for name := range strings.SplitSeq(field, ".") {
		names = append(names, name)
	}
	return names
}

func mapValue(node *yaml.Node, name string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1]
		}
	}
	return nil
}

// SetField sets one field of the text of a configuration and leaves the rest, comments included, as it is.
func SetField(text []byte, field, value string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("it is not a mapping")
	}
	if node := mapValue(doc.Content[0], field); node != nil {
		node.SetString(value)
	} else {
		var name, content yaml.Node
		name.SetString(field)
		content.SetString(value)
		doc.Content[0].Content = append(doc.Content[0].Content, &name, &content)
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(&doc)
	return out.Bytes(), err
}
