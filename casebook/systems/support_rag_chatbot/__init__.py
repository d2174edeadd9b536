"""Case 16: the support chatbot around the retriever."""
