"""A PDF says in its metadata that it is a Factur-X invoice: written behind its end, so that what stood before stays as it was.

The words of the declaration (namespace, profile, extension schema) are those of the factur-x library. Its own way to put an
invoice into a PDF writes the whole file anew, dated now: the same invoice would have other bytes each time.
"""

from __future__ import annotations

import re
from functools import lru_cache

import facturx
from lxml import etree

PROFILE = "EN 16931"
FILE_NAME = "factur-x.xml"

_NAMESPACE = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_EXTENSION = "{http://www.aiim.org/pdfa/ns/extension/}"
_XMP = re.compile(rb"(\d+) 0 obj\s*<<[^>]*/Type/Metadata[^>]*>>\s*stream\r?\n", re.DOTALL)
_TRAILER = re.compile(rb"trailer\s*(<<.*?>>)\s*startxref\s*(\d+)\s*%%EOF\s*$", re.DOTALL)
_SCHEMAS_END = b"</rdf:Bag></pdfaExtension:schemas>"
_END = b"</rdf:RDF>"


def with_factur_x_metadata(pdf: bytes) -> bytes:
    """The same PDF with metadata that declare the attached factur-x.xml, as an incremental update (ISO 32000-1, 7.5.6).

    Raises: ValueError if the PDF is not laid out as our typesetter does: a newer one must be looked at first.
    """
    trailer = _TRAILER.search(pdf)
    head = _XMP.search(pdf)
    if trailer is None or head is None:
        raise ValueError(
            "the PDF has no plain trailer or no plain metadata: it was made by another typesetter"
        )
    number = int(head[1])
    end = pdf.index(b"endstream", head.end())
    metadata = _declared(pdf[head.end() : end].rstrip(b"\r\n"))
    body = b"%d 0 obj\n<</Length %d/Type/Metadata/Subtype/XML>>\nstream\n%s\nendstream\nendobj\n" % (
        number,
        len(metadata),
        metadata,
    )
    start = len(pdf) + 1
    table = b"xref\n%d 1\n%010d 00000 n\r\n" % (number, start)
    entries = trailer[1][:-2] + b"/Prev %s>>" % trailer[2]
    tail = b"trailer\n%s\nstartxref\n%d\n%%%%EOF\n" % (entries, start + len(body))
    return pdf + b"\n" + body + table + tail


def _declared(metadata: bytes) -> bytes:
    schema, declaration = _declaration()
    if metadata.count(_SCHEMAS_END) != 1 or metadata.count(_END) != 1:
        raise ValueError(
            "the metadata of the PDF have no list of extension schemas: it was made by another typesetter"
        )
    return metadata.replace(_SCHEMAS_END, schema + _SCHEMAS_END).replace(_END, declaration + _END)


@lru_cache(maxsize=1)
def _declaration() -> tuple[bytes, bytes]:
    """The entry of the extension schema, and the description that says name, type, version and profile."""
    tree = facturx.generate_xmp_object(
        {
            "pdfa3_flavor": "B",
            "title": "",
            "author": "",
            "subject": "",
            "producer": "",
            "creator_tool": "",
            "timestamp": "",
            "urn": _NAMESPACE,
            "documenttype": "INVOICE",
            "xml_filename": FILE_NAME,
            "version": "1.0",
            "xmp_level": PROFILE,
        }
    )
    schema = tree.find(f".//{_EXTENSION}schemas/{_RDF}Bag/{_RDF}li")
    name = tree.find(f".//{{{_NAMESPACE}}}DocumentFileName")
    assert schema is not None
    assert name is not None
    return _alone(schema), _alone(name.getparent())


def _alone(element: etree._Element) -> bytes:
    """The element as text that stands in any place: with the namespaces it needs and no others."""
    copy = etree.fromstring(etree.tostring(element, with_tail=False))
    etree.cleanup_namespaces(copy)
    if copy.tag == f"{_RDF}Description":
        copy.set(f"{_RDF}about", "")
    return bytes(etree.tostring(copy))
