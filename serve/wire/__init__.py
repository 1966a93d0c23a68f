"""One engine behind the routes of TGI and of OpenAI."""
