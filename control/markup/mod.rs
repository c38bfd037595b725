//! The XML verbs that TwiML, TeXML and cXML share.
